/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * uffd.c: asynchronous write protection by userfaultfd.
 *
 * State: the descriptor.
 *
 * Threads: the daemon's. A child of fork starts with its own uffd_open().
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>

#include "os.h"
#include "uffd.h"

/* Younger than the headers of Debian 12. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif

static int uffd = -1;

static int handshake(int fd)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC,
	};
	int ret = os_ioctl(fd, UFFDIO_API, &api);

	/* A kernel that does not know the feature bit says EINVAL. */
	if (ret == -EINVAL)
		return -EOPNOTSUPP;
	return ret;
}

int uffd_open(void)
{
	int fd = os_userfaultfd(O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	int ret;

	uffd = -1;	/* after a fork it holds the parent's */
	if (fd < 0)
		return fd;
	ret = handshake(fd);
	if (ret < 0) {
		os_close(fd);
		return ret;
	}
	uffd = fd;
	return 0;
}

int uffd_cover(uintptr_t addr, size_t len)
{
	struct uffdio_register reg = {
		.range = { .start = addr, .len = len },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int ret = os_ioctl(uffd, UFFDIO_REGISTER, &reg);

	if (ret < 0)
		return ret;
	if (!(reg.ioctls & (1ULL << _UFFDIO_WRITEPROTECT)))
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

void uffd_close(void)
{
	if (uffd >= 0)
		os_close(uffd);
	uffd = -1;
}
