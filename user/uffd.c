/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * uffd.c: the daemon's userfaultfd.
 *
 * State: the descriptor.
 *
 * Threads: the daemon's. A child of fork starts with its own uffd_open().
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>

#include "compiler.h"
#include "os.h"
#include "uffd.h"

#define DEVICE	"/dev/userfaultfd"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW	_IO(0xAA, 0x00)
#endif

/* Linux 6.8, as in its user space header. */
#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};

#define UFFDIO_MOVE			_IOWR(UFFDIO, 0x05, struct uffdio_move)
#define UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES	((__u64)1 << 1)
#endif

static int uffd = -1;

static int handshake(int fd, uint64_t features)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = features,
	};
	int ret = os_ioctl(fd, UFFDIO_API, &api);

	/* A kernel that does not know a feature bit says EINVAL. */
	if (ret == -EINVAL)
		return -EOPNOTSUPP;
	return ret;
}

/* The device gives one that serves the kernel's faults to whoever may open it. */
static int open_device(void)
{
	int ret, fd = os_open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return fd;
	ret = os_ioctl(fd, USERFAULTFD_IOC_NEW, (void *)(O_CLOEXEC | O_NONBLOCK));
	os_close(fd);
	return ret;
}

static int open_any(bool kernel_faults)
{
	int fd;

	if (!kernel_faults)
		return os_userfaultfd(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	fd = os_userfaultfd(O_CLOEXEC | O_NONBLOCK);
	if (fd == -EPERM) {
		int ret = open_device();

		return ret < 0 ? fd : ret;
	}
	return fd;
}

int uffd_open(uint64_t features, bool kernel_faults)
{
	int ret, fd = open_any(kernel_faults);

	uffd = -1;	/* after a fork it holds the parent's */
	if (fd < 0)
		return fd;
	ret = handshake(fd, features);
	if (ret < 0) {
		os_close(fd);
		return ret;
	}
	uffd = fd;
	return 0;
}

int uffd_uncover(uintptr_t addr, size_t len)
{
	struct uffdio_range range = { .start = addr, .len = len };

	return os_ioctl(uffd, UFFDIO_UNREGISTER, &range);
}

int uffd_cover(uintptr_t addr, size_t len, uint64_t mode)
{
	struct uffdio_register reg = {
		.range = { .start = addr, .len = len },
		.mode = mode,
	};
	int ret = os_ioctl(uffd, UFFDIO_REGISTER, &reg);

	/* The kernel leaves what it got done: here, some of several mappings. */
	if (ret == -ENOMEM)
		uffd_uncover(addr, len);
	if (ret < 0)
		return ret;
	if (mode & UFFDIO_REGISTER_MODE_WP && !(reg.ioctls & (1ULL << _UFFDIO_WRITEPROTECT)))
		return -EOPNOTSUPP;
	return 0;
}

int uffd_protect(uintptr_t addr, size_t len)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = addr, .len = len },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return os_ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
}

/* An interrupted move says how far it got, and EAGAIN. */
int uffd_move(uintptr_t to, uintptr_t from, size_t len, size_t *moved)
{
	int ret = 0;

	for (*moved = 0; *moved < len && (!ret || ret == -EAGAIN);) {
		struct uffdio_move mv = {
			.dst = to + *moved,
			.src = from + *moved,
			.len = len - *moved,
			.mode = UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES,
		};

		ret = os_ioctl(uffd, UFFDIO_MOVE, &mv);
		if (mv.move > 0)
			*moved += (size_t)mv.move;
		else if (!ret)
			ret = -EIO;
	}
	return *moved == len ? 0 : ret;
}

/* Page by page: one that is there already is not a hole. */
int uffd_copy(uintptr_t to, const void *from, size_t len)
{
	size_t off;
	int ret = 0;

	for (off = 0; off < len && !ret; off += PAGE_SIZE) {
		struct uffdio_copy cp = {
			.dst = to + off,
			.src = (uintptr_t)from + off,
			.len = PAGE_SIZE,
		};

		do
			ret = os_ioctl(uffd, UFFDIO_COPY, &cp);
		while (ret == -EAGAIN);
		if (ret == -EEXIST)
			ret = 0;
	}
	return ret;
}

void uffd_wake(uintptr_t addr, size_t len)
{
	struct uffdio_range range = { .start = addr, .len = len };

	os_ioctl(uffd, UFFDIO_WAKE, &range);
}

void uffd_close(void)
{
	if (uffd >= 0)
		os_close(uffd);
	uffd = -1;
}
