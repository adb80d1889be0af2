// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * What programs do to memory that they take for private and anonymous, other than reading and
 * writing it: in an arena it does what they expect, or it fails and changes nothing.
 */
#include "peer.h"

#include <linux/mempolicy.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include "kselftest_harness.h"

#define SLOT		512
#define PAGES		64UL

/* Not in the headers of Debian 12. */
#ifndef SYS_process_mrelease
#define SYS_process_mrelease	448
#endif
#ifndef SYS_mseal
#define SYS_mseal		462
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

/* Page 1 shows the page of 2, whose first slot is page 1's. All others are alone. */
FIXTURE(anonymous) {
	struct arena a;
};

static char byte_of(size_t page)
{
	return 'A' + page % 26;
}

FIXTURE_SETUP(anonymous)
{
	size_t i;

	self->a = arena_open(PAGES, MESHHELPER_MERGE_ZAP);
	for (i = 0; i < PAGES; i++)
		memset(page_at(&self->a, i), byte_of(i), PAGE);
	ASSERT_EQ(0, merge_slot(&self->a, 1, 2, SLOT, 0));
}

FIXTURE_TEARDOWN(anonymous)
{
	arena_close(&self->a);
}

static bool alias_intact(struct arena *a, size_t page)
{
	return all_bytes(page_at(a, page), SLOT, byte_of(1)) &&
	       all_bytes(page_at(a, page) + SLOT, PAGE - SLOT, byte_of(2));
}

/* Is everything as it was? Pages [@from, @to) need not be. */
static bool intact_but(struct arena *a, size_t from, size_t to)
{
	size_t i;

	for (i = 0; i < PAGES; i++) {
		if (i >= from && i < to)
			continue;
		if (i == 1 || i == 2 ? !alias_intact(a, i) :
				       !all_bytes(page_at(a, i), PAGE, byte_of(i)))
			return false;
	}
	return true;
}

static bool intact(struct arena *a)
{
	return intact_but(a, 0, 0);
}

/* The emulation of remap_file_pages() maps the VMA's file, which would show slots. */
TEST_F(anonymous, remap_file_pages)
{
	EXPECT_EQ(-1, syscall(SYS_remap_file_pages, page_at(&self->a, 4), PAGE, 0, 9, 0));
	EXPECT_EQ(-1, syscall(SYS_remap_file_pages, page_at(&self->a, 1), 2 * PAGE, 0, 1, 0));
	EXPECT_TRUE(intact(&self->a));
	EXPECT_EQ(0, merge_slot(&self->a, 3, 4, SLOT, 0));
}

/* Where each page is to be, by policy and by order. */
TEST_F(anonymous, numa_policy)
{
	unsigned long nodes = 1;
	void *pages[PAGES];
	int status[PAGES], to[PAGES];
	size_t i;

	if (syscall(SYS_mbind, self->a.base, PAGES * PAGE, MPOL_BIND, &nodes, 64,
		    MPOL_MF_MOVE | MPOL_MF_STRICT)) {
		if (errno == ENOSYS)
			SKIP(return, "kernel has no CONFIG_NUMA");
		EXPECT_EQ(EIO, errno);
	}
	EXPECT_EQ(0, syscall(SYS_mbind, page_at(&self->a, 8), 8 * PAGE, MPOL_PREFERRED, &nodes, 64,
			     MPOL_MF_MOVE));
	EXPECT_TRUE(intact(&self->a));
	for (i = 0; i < PAGES; i++) {
		pages[i] = page_at(&self->a, i);
		touch(pages[i]);
		/* The other node, if there is one. */
		to[i] = 1;
	}
	EXPECT_EQ(0, syscall(SYS_move_pages, 0, PAGES, pages, NULL, status, 0));
	for (i = 0; i < PAGES; i++)
		EXPECT_LE(0, status[i]);
	if (syscall(SYS_move_pages, 0, PAGES, pages, to, status, MPOL_MF_MOVE) < 0) {
		EXPECT_EQ(ENODEV, errno);
	} else {
		EXPECT_EQ(1, status[5]);
	}
	EXPECT_TRUE(intact(&self->a));
	EXPECT_TRUE(same_frame(page_at(&self->a, 1), page_at(&self->a, 2)));
	EXPECT_EQ(0, merge_slot(&self->a, 3, 4, SLOT, 0));
}

/* A dying process's memory may be taken by others before it is gone: not its relatives'. */
TEST_F(anonymous, process_mrelease)
{
	long long arenas = counter("arenas");
	unsigned int i, released = 0;
	int ready[2], pidfd;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	for (i = 0; i < 20; i++) {
		pid = fork();
		if (!pid) {
			memset(page_at(&self->a, 10), 'c', 20 * PAGE);
			tell(ready[1]);
			for (;;)
				pause();
		}
		hear(ready[0]);
		pidfd = syscall(SYS_pidfd_open, pid, 0);
		ASSERT_LE(0, pidfd);
		kill(pid, SIGKILL);
		if (!syscall(SYS_process_mrelease, pidfd, 0)) {
			released++;
		} else {
			/* It may be gone already. */
			EXPECT_EQ(ESRCH, errno);
		}
		EXPECT_EQ(128 + SIGKILL, exit_code(pid));
		close(pidfd);
		EXPECT_TRUE(intact(&self->a));
	}
	TH_LOG("%u of %u in time", released, i);
	EXPECT_EQ(arenas, counter("arenas"));
}

static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

static int uffd_register(int fd, void *at, size_t len, uint64_t mode)
{
	struct uffdio_register reg = { .range = { (uintptr_t)at, len }, .mode = mode };

	return ioctl(fd, UFFDIO_REGISTER, &reg);
}

#ifndef UFFDIO_REGISTER_MODE_MINOR
#define UFFDIO_REGISTER_MODE_MINOR	4
#endif

/* All that a userfaultfd can do but to write-protect asynchronously is refused. */
TEST_F(anonymous, foreign_userfaultfd)
{
	static const uint64_t modes[] = {
		UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_MINOR,
		UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
		UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP,
	};
	unsigned int i;
	int fd;

	fd = uffd_open(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM);
	ASSERT_LE(0, fd);
	for (i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		EXPECT_EQ(-1, uffd_register(fd, self->a.base, PAGES * PAGE, modes[i]));
	EXPECT_EQ(-1, uffd_register(fd, self->a.base, PAGES * PAGE, UFFDIO_REGISTER_MODE_WP));
	close(fd);
	EXPECT_TRUE(intact(&self->a));
	EXPECT_EQ(0, merge_slot(&self->a, 3, 4, SLOT, 0));
}

/* Linux 6.8 and later. */
struct move_args {
	uint64_t dst;
	uint64_t src;
	uint64_t len;
	uint64_t mode;
	int64_t moved;
};

#define MOVE_PAGES	_IOWR(UFFDIO, 5, struct move_args)

/* Nor are pages put into an arena, or moved out of it. */
TEST_F(anonymous, userfaultfd_fills)
{
	char *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	struct uffdio_copy copy = { .src = (uintptr_t)page, .len = PAGE };
	struct move_args move = { .len = PAGE };
	int fd;

	if (!mode_supported(MESHHELPER_MERGE_ARMED))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	ASSERT_NE(MAP_FAILED, page);
	memset(page, 'x', PAGE);
	fd = uffd_open(UFFD_FEATURE_WP_ASYNC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, uffd_register(fd, self->a.base, PAGES * PAGE, UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, uffd_register(fd, page + PAGE, PAGE, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, madvise(page_at(&self->a, 20), PAGE, MADV_REMOVE));
	copy.dst = (uintptr_t)page_at(&self->a, 20);
	EXPECT_EQ(-1, ioctl(fd, UFFDIO_COPY, &copy));
	move.dst = copy.dst;
	move.src = copy.src;
	EXPECT_EQ(-1, ioctl(fd, MOVE_PAGES, &move));
	move.dst = (uintptr_t)page + PAGE;
	move.src = (uintptr_t)page_at(&self->a, 1);
	EXPECT_EQ(-1, ioctl(fd, MOVE_PAGES, &move));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 20), PAGE, 0));
	EXPECT_TRUE(intact_but(&self->a, 20, 21));
	close(fd);
	munmap(page, 2 * PAGE);
}

/* The program waits until each event is read. */
static void *read_events(void *arg)
{
	struct pollfd poll_fd = { .fd = *(int *)arg, .events = POLLIN };
	struct uffd_msg msg;
	unsigned long events = 0;

	while (poll(&poll_fd, 1, -1) >= 0) {
		if (read(poll_fd.fd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		events++;
		if (msg.event == UFFD_EVENT_FORK)
			close(msg.arg.fork.ufd);
		/* The last one. */
		if (msg.event == UFFD_EVENT_UNMAP)
			break;
	}
	return (void *)events;
}

/* What a debugger can do to private memory, it cannot to what only may be read here. */
TEST_F(anonymous, written_by_force)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	char byte = 'f';

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, mprotect(page_at(&self->a, 1), 8 * PAGE, PROT_READ));
	EXPECT_EQ(-1, pwrite(fd, &byte, 1, (uintptr_t)page_at(&self->a, 1)));
	EXPECT_EQ(-1, pwrite(fd, &byte, 1, (uintptr_t)page_at(&self->a, 5)));
	ASSERT_EQ(0, mprotect(page_at(&self->a, 1), 8 * PAGE, PROT_NONE));
	EXPECT_EQ(-1, pwrite(fd, &byte, 1, (uintptr_t)page_at(&self->a, 5)));
	ASSERT_EQ(0, mprotect(page_at(&self->a, 1), 8 * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_TRUE(intact(&self->a));
	close(fd);
}

/* Somebody follows what becomes of the arena, over forks. */
TEST_F(anonymous, userfaultfd_events)
{
	int fd = uffd_open(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_EVENT_FORK |
			   UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
			   UFFD_FEATURE_EVENT_UNMAP);
	pthread_t thread;
	void *events;
	pid_t pid;

	if (fd < 0)
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	ASSERT_EQ(0, uffd_register(fd, self->a.base, PAGES * PAGE, UFFDIO_REGISTER_MODE_WP));
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_events, &fd));
	pid = fork();
	if (!pid) {
		if (!intact(&self->a))
			_exit(1);
		memset(self->a.base, 'c', PAGES * PAGE);
		_exit(all_bytes(self->a.base, PAGES * PAGE, 'c') ? 0 : 2);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(intact(&self->a));
	self->a.mode = MESHHELPER_MERGE_ARMED;
	self->a.uffd = fd;
	EXPECT_EQ(0, merge_slot(&self->a, 3, 4, SLOT, 0));
	EXPECT_EQ(0, madvise(page_at(&self->a, 3), PAGE, MADV_REMOVE));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 3), PAGE, 0));
	EXPECT_EQ(byte_of(3), page_at(&self->a, 4)[0]);
	EXPECT_EQ(0, munmap(page_at(&self->a, PAGES - 1), PAGE));
	pthread_join(thread, &events);
	EXPECT_EQ(3, (unsigned long)events);
	close(fd);
	self->a.uffd = -1;
}

/* Linux 6.7 and later. */
struct scan_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct scan_args {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define SCAN_PAGES	_IOWR('f', 16, struct scan_args)
#define SCAN_WRITTEN	2
#define SCAN_PROTECT	3	/* PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC */

/* Which pages have been written to since the last call, a bit for each; ~0 on failure. */
static uint64_t scan_written(struct arena *a)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	struct scan_region regions[PAGES];
	struct scan_args args = {
		.size = sizeof(args),
		.flags = SCAN_PROTECT,
		.start = (uintptr_t)a->base,
		.end = (uintptr_t)page_at(a, PAGES),
		.vec = (uintptr_t)regions,
		.vec_len = PAGES,
		.category_mask = SCAN_WRITTEN,
		.return_mask = SCAN_WRITTEN,
	};
	uint64_t written = 0, at;
	int i, n = ioctl(fd, SCAN_PAGES, &args);

	close(fd);
	if (n < 0)
		return ~0ULL;
	for (i = 0; i < n; i++)
		for (at = regions[i].start; at < regions[i].end; at += PAGE)
			written |= 1ULL << (at - (uintptr_t)a->base) / PAGE;
	return written;
}

/* A checkpoint that asks, and protects anew, in one go. */
TEST_F(anonymous, pagemap_scan)
{
	int fd;

	if (!mode_supported(MESHHELPER_MERGE_ARMED))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	ASSERT_EQ(0, madvise(page_at(&self->a, 30), 4 * PAGE, MADV_REMOVE));
	fd = uffd_open(UFFD_FEATURE_WP_ASYNC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, uffd_register(fd, self->a.base, PAGES * PAGE, UFFDIO_REGISTER_MODE_WP));
	scan_written(&self->a);
	EXPECT_EQ(0, scan_written(&self->a));
	page_at(&self->a, 5)[0] = byte_of(5);
	page_at(&self->a, 1)[0] = byte_of(1);
	/* These have no page yet. */
	page_at(&self->a, 31)[0] = 'x';
	EXPECT_EQ(1ULL << 5 | 1ULL << 1 | 1ULL << 31, scan_written(&self->a));
	EXPECT_EQ(0, scan_written(&self->a));
	touch(page_at(&self->a, 32));
	EXPECT_EQ(0, scan_written(&self->a));
	EXPECT_TRUE(intact_but(&self->a, 30, 34));
	close(fd);
}

/* The device has no contents. */
TEST_F(anonymous, device_calls)
{
	char byte = 'd';
	int fds[2], fd = self->a.fd;

	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(1, write(fds[1], &byte, 1));
	EXPECT_EQ(-1, read(fd, &byte, 1));
	EXPECT_EQ(-1, write(fd, &byte, 1));
	EXPECT_EQ(-1, pread(fd, &byte, 1, 0));
	EXPECT_EQ(-1, pwrite(fd, &byte, 1, 0));
	EXPECT_EQ(-1, lseek(fd, 0, SEEK_HOLE));
	EXPECT_EQ(-1, lseek(fd, 0, SEEK_DATA));
	EXPECT_EQ(-1, ftruncate(fd, 0));
	EXPECT_EQ(-1, fallocate(fd, 0, 0, PAGE));
	EXPECT_EQ(-1, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
	EXPECT_EQ(-1, fcntl(fd, F_GET_SEALS));
	EXPECT_EQ(-1, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(-1, fsync(fd));
	EXPECT_EQ(-1, sendfile(fds[1], fd, NULL, 1));
	EXPECT_EQ(-1, splice(fd, NULL, fds[1], NULL, 1, 0));
	EXPECT_EQ(-1, splice(fds[0], NULL, fd, NULL, 1, 0));
	EXPECT_EQ(-1, copy_file_range(fd, NULL, fds[1], NULL, 1, 0));
	EXPECT_TRUE(intact(&self->a));
	close(fds[0]);
	close(fds[1]);
}

/* How an administrator gets at the store, as plain shared memory with slots for pages. */
static int store_open(struct arena *a, off_t *offset)
{
	unsigned long long number;
	unsigned long first;
	char path[128];

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)a->base,
		 (unsigned long)page_at(a, PAGES));
	arena_in_maps(a, &first, &number);
	*offset = first;
	return open(path, O_RDWR | O_CLOEXEC);
}

/* Through which contents can be read; pages can be made, which must not show anywhere. */
TEST_F(anonymous, store_calls)
{
	char *shared, *own, byte = 0;
	int fds[2], fd;
	off_t at;

	fd = store_open(&self->a, &at);
	if (fd < 0)
		SKIP(return, "no /proc/PID/map_files");
	ASSERT_EQ(0, pipe(fds));
	EXPECT_EQ(-1, fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
	EXPECT_LE(0, lseek(fd, at, SEEK_DATA));
	EXPECT_LE(0, lseek(fd, at, SEEK_HOLE));
	EXPECT_EQ(1, pread(fd, &byte, 1, at + 5 * PAGE));
	EXPECT_EQ(byte_of(5), byte);
	EXPECT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	EXPECT_TRUE(intact(&self->a));
	/* A page in a pipe is in use until it has been read. */
	at += 6 * PAGE;
	ASSERT_EQ(1, sendfile(fds[1], fd, &at, 1));
	at -= 6 * PAGE + 1;
	EXPECT_EQ(-EBUSY, merge_slot(&self->a, 6, 7, SLOT, 0));
	hear(fds[0]);
	EXPECT_EQ(0, merge_slot(&self->a, 6, 7, SLOT, 0));
	/* The spare of 1 and 2 is where 1 was. Who leaves the group gets it, and zeroes. */
	EXPECT_EQ(0, fallocate(fd, 0, at + PAGE, PAGE));
	EXPECT_EQ(0, madvise(page_at(&self->a, 1), PAGE, MADV_REMOVE));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 1), PAGE, 0));
	EXPECT_TRUE(alias_intact(&self->a, 2));
	shared = mmap(NULL, 16 * PAGE, PROT_READ, MAP_SHARED, fd, at);
	own = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, at);
	ASSERT_NE(MAP_FAILED, own);
	if (shared != MAP_FAILED) {
		EXPECT_EQ(-1, mprotect(shared, PAGE, PROT_READ | PROT_WRITE));
		EXPECT_EQ(byte_of(9), shared[9 * PAGE]);
	}
	memset(own, 'o', 16 * PAGE);
	EXPECT_EQ(byte_of(9), page_at(&self->a, 9)[0]);
	merge_slot(&self->a, 9, 10, SLOT, 0);
	EXPECT_EQ(0, madvise(page_at(&self->a, 8), 4 * PAGE, MADV_REMOVE));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 8), 4 * PAGE, 0));
	EXPECT_TRUE(all_bytes(own, 16 * PAGE, 'o'));
	munmap(own, 16 * PAGE);
	if (shared != MAP_FAILED)
		munmap(shared, 16 * PAGE);
	close(fd);
	close(fds[0]);
	close(fds[1]);
}

/* The page tables move, the old mapping stays: as for shared memory, both show the same. */
TEST_F(anonymous, moved_and_kept)
{
	char *to = mremap(self->a.base, PAGES * PAGE, PAGES * PAGE,
			  MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	struct arena moved = self->a;

	ASSERT_NE(MAP_FAILED, to) TH_LOG("%s", strerror(errno));
	moved.base = to;
	EXPECT_TRUE(intact(&moved));
	EXPECT_TRUE(intact(&self->a));
	EXPECT_EQ(0, merge_slot(&moved, 3, 4, SLOT, 0));
	EXPECT_EQ(byte_of(3), page_at(&self->a, 4)[0]);
	EXPECT_EQ(0, madvise(page_at(&moved, 3), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, page_at(&self->a, 3)[0]);
	munmap(to, PAGES * PAGE);
}

static sigjmp_buf jump;
static siginfo_t signalled;

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)context;
	signalled = *info;
	siglongjmp(jump, number);
}

/* The signal that an access raises, 0 if none; details are in signalled. */
static int signal_of(char *addr, bool write)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	struct sigaction segv, bus;
	int number;

	sigaction(SIGSEGV, &action, &segv);
	sigaction(SIGBUS, &action, &bus);
	number = sigsetjmp(jump, 1);
	if (!number && write)
		*(volatile char *)addr = 'w';
	else if (!number)
		touch(addr);
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return number;
}

/* A signal handler is entered with all keys shut, and left by a jump here. */
static bool is_shut(char *addr, bool write, int key, unsigned int rights)
{
	int number;

	pkey_set(key, rights);
	number = signal_of(addr, write);
	pkey_set(key, 0);
	return number == SIGSEGV && signalled.si_code == SEGV_PKUERR;
}

/* A protection key also holds for pages that a write has made, merged ones included. */
TEST_F(anonymous, protection_keys)
{
	int key = pkey_alloc(0, 0);

	if (key < 0)
		SKIP(return, "no protection keys");
	ASSERT_EQ(0, madvise(page_at(&self->a, 20), 4 * PAGE, MADV_REMOVE));
	ASSERT_EQ(0, pkey_mprotect(self->a.base, PAGES * PAGE, PROT_READ | PROT_WRITE, key));
	memset(page_at(&self->a, 20), 'k', 4 * PAGE);
	EXPECT_EQ(0, merge_slot(&self->a, 20, 21, SLOT, 0));
	page_at(&self->a, 20)[0] = 'l';
	EXPECT_TRUE(is_shut(page_at(&self->a, 20), true, key, PKEY_DISABLE_WRITE));
	EXPECT_FALSE(is_shut(page_at(&self->a, 20), false, key, PKEY_DISABLE_WRITE));
	EXPECT_TRUE(is_shut(page_at(&self->a, 22), true, key, PKEY_DISABLE_WRITE));
	EXPECT_TRUE(is_shut(page_at(&self->a, 1), true, key, PKEY_DISABLE_WRITE));
	EXPECT_TRUE(is_shut(page_at(&self->a, 23), false, key, PKEY_DISABLE_ACCESS));
	EXPECT_EQ('l', page_at(&self->a, 21)[0]);
	EXPECT_TRUE(intact_but(&self->a, 20, 24));
	ASSERT_EQ(0, pkey_mprotect(self->a.base, PAGES * PAGE, PROT_READ | PROT_WRITE, 0));
	pkey_free(key);
}

/* Linux 6.11 and later. */
struct map_query {
	uint64_t size;
	uint64_t query_flags;
	uint64_t query_addr;
	uint64_t vma_start;
	uint64_t vma_end;
	uint64_t vma_flags;
	uint64_t vma_page_size;
	uint64_t vma_offset;
	uint64_t inode;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint32_t vma_name_size;
	uint32_t build_id_size;
	uint64_t vma_name_addr;
	uint64_t build_id_addr;
};

#define QUERY_MAP	_IOWR('f', 17, struct map_query)

/* A profiler wants to know what program the memory is: none, even if it looks like one. */
TEST_F(anonymous, build_id)
{
	char id[32];
	struct map_query query = {
		.size = sizeof(query),
		.query_addr = (uintptr_t)page_at(&self->a, 3),
		.build_id_size = sizeof(id),
		.build_id_addr = (uintptr_t)id,
	};
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	memcpy(self->a.base, "\177ELF\2\1\1", 7);
	if (ioctl(fd, QUERY_MAP, &query)) {
		EXPECT_NE(EFAULT, errno);
	} else {
		EXPECT_EQ(0, query.build_id_size);
	}
	close(fd);
	EXPECT_TRUE(intact_but(&self->a, 0, 1));
}

/* Sealed against being unmapped or moved: what needs neither goes on. In a process of its own. */
TEST_F(anonymous, sealed)
{
	pid_t pid = fork();

	if (!pid) {
		if (syscall(SYS_mseal, self->a.base, PAGES * PAGE, 0))
			_exit(4);
		if (!munmap(page_at(&self->a, 5), PAGE) ||
		    mremap(self->a.base, PAGES * PAGE, PAGE, 0) != MAP_FAILED)
			_exit(1);
		memset(page_at(&self->a, 3), 'c', 2 * PAGE);
		if (merge_slot(&self->a, 3, 4, SLOT, 0))
			_exit(2);
		_exit(alias_intact(&self->a, 1) && alias_intact(&self->a, 2) ? 0 : 3);
	}
	switch (exit_code(pid)) {
	case 0:
		break;
	case 4:
		SKIP(return, "kernel has no mseal()");
	default:
		EXPECT_TRUE(false);
	}
	EXPECT_TRUE(intact(&self->a));
}

/* A guard page that the page tables keep is one after a merge, too. */
TEST_F(anonymous, guard_page)
{
	if (madvise(page_at(&self->a, 5), PAGE, MADV_GUARD_INSTALL))
		SKIP(return, "kernel has no guard pages in mappings of files");
	EXPECT_EQ(SIGSEGV, signal_of(page_at(&self->a, 5), true));
	EXPECT_EQ(0, merge_slot(&self->a, 5, 6, SLOT, 0));
	EXPECT_EQ(SIGSEGV, signal_of(page_at(&self->a, 5), true));
	EXPECT_EQ(SIGSEGV, signal_of(page_at(&self->a, 5), false));
	EXPECT_EQ(byte_of(5), page_at(&self->a, 6)[0]);
	ASSERT_EQ(0, madvise(page_at(&self->a, 5), PAGE, MADV_GUARD_REMOVE));
	EXPECT_EQ(byte_of(6), page_at(&self->a, 5)[SLOT]);
	EXPECT_TRUE(intact_but(&self->a, 5, 7));
}

/* Touching what was lost to a memory error. */
static bool is_lost(char *addr, bool write)
{
	return signal_of(addr, write) == SIGBUS && signalled.si_code == BUS_MCEERR_AR &&
	       signalled.si_addr == addr;
}

/* False if the kernel has no use for that. */
static bool lose_page(char *page)
{
	struct sigaction old, action = { .sa_handler = survive };
	int err;

	touch(page);
	sigaction(SIGBUS, &action, &old);
	err = madvise(page, PAGE, MADV_HWPOISON) ? errno : 0;
	sigaction(SIGBUS, &old, NULL);
	return err != EINVAL;
}

/* Who touches it is told what has happened, and may have a new page there. */
TEST_F(anonymous, touched_lost_page)
{
	pid_t pid;

	if (!lose_page(page_at(&self->a, 5)))
		SKIP(return, "the kernel does not handle memory errors");
	EXPECT_TRUE(is_lost(page_at(&self->a, 5), false));
	EXPECT_TRUE(is_lost(page_at(&self->a, 5), true));
	ASSERT_EQ(0, madvise(page_at(&self->a, 5), PAGE, MADV_DONTNEED));
	EXPECT_TRUE(is_lost(page_at(&self->a, 5), false));
	EXPECT_TRUE(is_lost(page_at(&self->a, 5), true));
	pid = fork();
	if (!pid) {
		if (!is_lost(page_at(&self->a, 5), false) || !is_lost(page_at(&self->a, 5), true))
			_exit(1);
		if (!intact_but(&self->a, 5, 6))
			_exit(2);
		if (madvise(page_at(&self->a, 5), PAGE, MADV_REMOVE))
			_exit(3);
		_exit(all_bytes(page_at(&self->a, 5), PAGE, 0) ? 0 : 4);
	}
	EXPECT_EQ(0, exit_code(pid));
	ASSERT_EQ(0, madvise(page_at(&self->a, 5), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, signal_of(page_at(&self->a, 5), true));
	EXPECT_TRUE(intact_but(&self->a, 5, 6));
	EXPECT_EQ(0, merge_slot(&self->a, 5, 6, SLOT, 0));
}

/* The same for a page that two addresses share: the kernel finds one of them. */
TEST_F(anonymous, shared_lost_page)
{
	touch(page_at(&self->a, 2));
	if (!lose_page(page_at(&self->a, 1)))
		SKIP(return, "the kernel does not handle memory errors");
	EXPECT_TRUE(intact_but(&self->a, 1, 3));
	EXPECT_NE(0, merge_slot(&self->a, 1, 5, SLOT, 0));
	EXPECT_NE(0, merge_slot(&self->a, 5, 1, SLOT, 0));
	ASSERT_EQ(0, madvise(self->a.base, PAGES * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(is_lost(page_at(&self->a, 1), false));
	EXPECT_TRUE(is_lost(page_at(&self->a, 2), true));
	ASSERT_EQ(0, madvise(page_at(&self->a, 1), 2 * PAGE, MADV_REMOVE));
	EXPECT_TRUE(all_bytes(page_at(&self->a, 1), 2 * PAGE, 0));
	EXPECT_TRUE(intact_but(&self->a, 1, 3));
	EXPECT_EQ(0, merge_slot(&self->a, 5, 1, SLOT, 0));
}

FIXTURE(strict) {
	struct setting limit;
	struct setting overcommit;
	struct arena a;
};

FIXTURE_SETUP(strict)
{
	self->a = arena_open(PAGES, MESHHELPER_MERGE_ZAP);
	memset(self->a.base, 's', PAGE);
}

FIXTURE_TEARDOWN(strict)
{
	restore_setting(&self->overcommit);
	restore_setting(&self->limit);
	arena_close(&self->a);
}

/*
 * With vm.overcommit_memory=2 a page is charged when it is made: who is over the limit gets a
 * signal, and goes on when there is memory again.
 */
TEST_F(strict, overcommit)
{
	size_t size = 1UL << 30;
	char *much = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, much);
	ASSERT_TRUE(save_commit_limit(&self->limit));
	ASSERT_TRUE(save_setting(&self->overcommit, OVERCOMMIT "memory"));
	ASSERT_TRUE(write_text(OVERCOMMIT "kbytes", "4"));
	ASSERT_TRUE(write_text(OVERCOMMIT "memory", "2"));
	EXPECT_EQ(SIGBUS, signal_of(page_at(&self->a, 1), true));
	EXPECT_EQ(0, signal_of(page_at(&self->a, 0), true));
	EXPECT_TRUE(restore_setting(&self->overcommit));
	EXPECT_TRUE(restore_setting(&self->limit));
	EXPECT_EQ(0, signal_of(page_at(&self->a, 1), true));
	munmap(much, size);
}

TEST_HARNESS_MAIN
