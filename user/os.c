/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The only file with system calls. Results are returned as the kernel gives
 * them: negative errno values on failure, errno itself is never written, so
 * that free(3) keeps it without further ado.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "os.h"
#include "os_syscall.h"

#define SYS0(nr)		sys6(nr, 0, 0, 0, 0, 0, 0)
#define SYS1(nr, a)		sys6(nr, (long)(a), 0, 0, 0, 0, 0)
#define SYS2(nr, a, b)		sys6(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define SYS3(nr, a, b, c)	sys6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define SYS4(nr, a, b, c, d) \
	sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define SYS5(nr, a, b, c, d, e) \
	sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS6(nr, a, b, c, d, e, f) \
	sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#define NSEC_PER_SEC	1000000000ULL

static long raw_mmap(void *addr, size_t len, int flags, int fd)
{
	return SYS6(SYS_mmap, addr, len, PROT_READ | PROT_WRITE, flags, fd, 0);
}

static void *pointer_or_null(long ret)
{
	return ret < 0 && ret > -4096 ? NULL : (void *)ret;
}

/* A kernel older than 4.17 takes the address as a hint only. */
static int expect_at(long ret, void *addr, size_t len)
{
	if (ret < 0 && ret > -4096)
		return (int)ret;
	if ((void *)ret == addr)
		return 0;
	os_unmap((void *)ret, len);
	return -EEXIST;
}

/**
 * os_map() - map zero-filled private memory wherever the kernel likes
 * @len: bytes
 *
 * Return: its address, or NULL.
 */
void *os_map(size_t len)
{
	return pointer_or_null(raw_mmap(NULL, len, MAP_PRIVATE | MAP_ANONYMOUS, -1));
}

/**
 * os_map_file() - map a file shared, from its start, wherever the kernel likes
 * @len: bytes
 * @fd: descriptor
 *
 * Return: its address, or NULL.
 */
void *os_map_file(size_t len, int fd)
{
	return pointer_or_null(raw_mmap(NULL, len, MAP_SHARED, fd));
}

/**
 * os_map_at() - map zero-filled private memory at an address
 * @addr: where; nothing may be mapped there
 * @len: bytes
 *
 * Return: 0 or -errno, -EEXIST when something is mapped there.
 */
int os_map_at(void *addr, size_t len)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;

	return expect_at(raw_mmap(addr, len, flags, -1), addr, len);
}

/**
 * os_map_file_at() - map a file shared, from its start, at an address
 * @addr: where; nothing may be mapped there
 * @len: bytes
 * @fd: descriptor
 *
 * Return: 0 or -errno.
 */
int os_map_file_at(void *addr, size_t len, int fd)
{
	int flags = MAP_SHARED | MAP_FIXED_NOREPLACE;

	return expect_at(raw_mmap(addr, len, flags, fd), addr, len);
}

/* A kernel before 6.12 may fail after it has unmapped what was there. */
static int map_over(void *addr, size_t len, int flags, int fd, uint64_t offset)
{
	long ret = SYS6(SYS_mmap, addr, len, PROT_READ | PROT_WRITE,
			flags | MAP_PRIVATE | MAP_FIXED, fd, offset);

	return ret < 0 && ret > -4096 ? (int)ret : 0;
}

/**
 * os_map_over() - replace whatever is mapped by zero-filled private memory
 * @addr: where
 * @len: bytes
 *
 * Return: 0 or -errno.
 */
int os_map_over(void *addr, size_t len)
{
	return map_over(addr, len, MAP_ANONYMOUS, -1, 0);
}

/**
 * os_map_file_over() - replace whatever is mapped by a private view of a file
 * @addr: where
 * @len: bytes
 * @fd: descriptor
 * @offset: of the first byte in the file
 *
 * Return: 0 or -errno.
 */
int os_map_file_over(void *addr, size_t len, int fd, uint64_t offset)
{
	return map_over(addr, len, 0, fd, offset);
}

int os_unmap(void *addr, size_t len)
{
	return (int)SYS2(SYS_munmap, addr, len);
}

/**
 * os_grow_in_place() - extend a mapping without moving it
 * @addr: start of the mapping
 * @old_len: bytes it has
 * @new_len: bytes it shall have
 *
 * Return: 0 or -errno.
 */
int os_grow_in_place(void *addr, size_t old_len, size_t new_len)
{
	long ret = SYS4(SYS_mremap, addr, old_len, new_len, 0);

	return ret < 0 && ret > -4096 ? (int)ret : 0;
}

/**
 * os_remap() - change the length of a mapping, moving it if need be
 * @addr: start of the mapping
 * @old_len: bytes it has
 * @new_len: bytes it shall have
 *
 * Return: its address, or NULL when nothing has changed.
 */
void *os_remap(void *addr, size_t old_len, size_t new_len)
{
	return pointer_or_null(SYS4(SYS_mremap, addr, old_len, new_len, MREMAP_MAYMOVE));
}

/**
 * os_move_pages() - move what a part of a mapping contains to a mapping of its own
 * @addr: start of the part, of private anonymous memory
 * @len: bytes
 *
 * The part stays mapped and reads as zero. Needs Linux 5.7.
 *
 * Return: address of the new mapping, or NULL when nothing has changed.
 */
void *os_move_pages(void *addr, size_t len)
{
	int flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;

	return pointer_or_null(SYS5(SYS_mremap, addr, len, len, flags, 0));
}

/**
 * os_move_over() - move a mapping to where another one is, which goes
 * @to: where
 * @from: part of one mapping of private memory; stays mapped and reads as zero
 * @len: bytes
 *
 * Needs Linux 5.7.
 *
 * Return: 0 or -errno.
 */
int os_move_over(void *to, void *from, size_t len)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
	long ret = SYS5(SYS_mremap, from, len, len, flags, to);

	return ret < 0 && ret > -4096 ? (int)ret : 0;
}

int os_madvise(void *addr, size_t len, int advice)
{
	return (int)SYS3(SYS_madvise, addr, len, advice);
}

int os_open(const char *path, int flags)
{
	return (int)SYS4(SYS_openat, -100 /* AT_FDCWD */, path, flags, 0);
}

int os_close(int fd)
{
	return (int)SYS1(SYS_close, fd);
}

long os_read(int fd, void *buf, size_t len)
{
	return SYS3(SYS_read, fd, buf, len);
}

long os_write(int fd, const void *buf, size_t len)
{
	return SYS3(SYS_write, fd, buf, len);
}

long os_read_at(int fd, void *buf, size_t len, uint64_t offset)
{
	return SYS4(SYS_pread64, fd, buf, len, offset);
}

long os_write_at(int fd, const void *buf, size_t len, uint64_t offset)
{
	return SYS4(SYS_pwrite64, fd, buf, len, offset);
}

/**
 * os_memfd() - a file in memory
 * @name: as shown in /proc/PID/maps
 * @sealing: can it be sealed?
 *
 * Return: descriptor or -errno.
 */
int os_memfd(const char *name, bool sealing)
{
	int flags = MFD_CLOEXEC | (sealing ? MFD_ALLOW_SEALING : 0);
	int fd = (int)SYS2(SYS_memfd_create, name, flags | 8 /* MFD_NOEXEC_SEAL */);

	/* before Linux 6.3 */
	if (fd == -EINVAL)
		fd = (int)SYS2(SYS_memfd_create, name, flags);
	return fd;
}

/**
 * os_seal_writes() - let nobody write to a file in memory any more
 * @fd: descriptor
 *
 * Return: 0 or -errno, -EBUSY while somebody has it mapped to write.
 */
int os_seal_writes(int fd)
{
	return (int)SYS3(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_WRITE);
}

int os_truncate(int fd, uint64_t len)
{
	return (int)SYS2(SYS_ftruncate, fd, len);
}

/**
 * os_punch() - give the memory of a part of a file back
 * @fd: descriptor
 * @offset: first byte
 * @len: bytes
 *
 * Return: 0 or -errno.
 */
int os_punch(int fd, uint64_t offset, uint64_t len)
{
	return (int)SYS4(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 offset, len);
}

/**
 * os_blocks() - memory that a file occupies
 * @fd: descriptor
 *
 * Return: units of 512 bytes, or -errno.
 */
int64_t os_blocks(int fd)
{
	struct stat st = { 0 };
	long ret = SYS2(SYS_fstat, fd, &st);

	return ret < 0 ? ret : st.st_blocks;
}

/**
 * os_read_memory() - copy from an address of this process that may not be readable
 * @buf: receives it
 * @addr: first byte
 * @len: bytes
 *
 * Return: bytes copied or -errno.
 */
long os_read_memory(void *buf, uintptr_t addr, size_t len)
{
	struct iovec to = { .iov_base = buf, .iov_len = len };
	struct iovec from = { .iov_base = (void *)addr, .iov_len = len };

	return SYS6(SYS_process_vm_readv, os_getpid(), &to, 1, &from, 1, 0);
}

int os_ioctl(int fd, unsigned long request, void *arg)
{
	return (int)SYS3(SYS_ioctl, fd, request, arg);
}

int os_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
	return (int)SYS3(SYS_close_range, first, last, flags);
}

int os_userfaultfd(int flags)
{
	return (int)SYS1(SYS_userfaultfd, flags);
}

int os_signalfd(const sigset_t *mask, int flags)
{
	return (int)SYS4(SYS_signalfd4, -1, mask, 8 /* kernel's sigset */, flags);
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / NSEC_PER_SEC),
		.tv_nsec = (long)(ns % NSEC_PER_SEC),
	};
}

/**
 * os_poll() - wait until something happens to one of some descriptors
 * @fds: descriptors, and what to wait for; receives what has happened
 * @n: their number
 * @timeout_ns: give up after this time, or OS_FOREVER
 *
 * Return: how many have something, 0 on timeout, -errno (-EINTR too) otherwise.
 */
int os_poll(struct pollfd *fds, unsigned int n, uint64_t timeout_ns)
{
	struct timespec ts = to_timespec(timeout_ns);

	return (int)SYS6(SYS_ppoll, fds, n, timeout_ns == OS_FOREVER ? NULL : &ts,
			 NULL, 0, 0);
}

/**
 * os_futex_wait() - sleep while a word keeps its value
 * @word: private futex
 * @value: value to sleep on
 * @timeout: relative, or NULL
 *
 * Return: 0 when woken, -EAGAIN, -EINTR or -ETIMEDOUT.
 */
int os_futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *timeout)
{
	return (int)SYS4(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout);
}

int os_futex_wake(_Atomic uint32_t *word, int nr)
{
	return (int)SYS3(SYS_futex, word, FUTEX_WAKE_PRIVATE, nr);
}

int os_getpid(void)
{
	return (int)SYS0(SYS_getpid);
}

int os_gettid(void)
{
	return (int)SYS0(SYS_gettid);
}

int os_tgkill(int pid, int tid, int sig)
{
	return (int)SYS3(SYS_tgkill, pid, tid, sig);
}

/**
 * os_exit_thread() - end the calling thread at once, by no more than a system call
 * @status: of the process, if this was its last thread
 */
_Noreturn void os_exit_thread(int status)
{
	for (;;)
		SYS1(SYS_exit, status);
}

int os_prctl_timer_slack(unsigned long ns)
{
	return (int)SYS2(SYS_prctl, PR_SET_TIMERSLACK, ns);
}

int os_prctl_name(const char *name)
{
	return (int)SYS2(SYS_prctl, PR_SET_NAME, name);
}

/**
 * os_sleep_ns() - sleep; a signal may end it early
 * @ns: nanoseconds
 */
void os_sleep_ns(uint64_t ns)
{
	struct timespec ts = to_timespec(ns);

	SYS4(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &ts, NULL);
}

/**
 * os_now_ns() - monotonic time
 */
uint64_t os_now_ns(void)
{
	struct timespec ts = { 0 };

	SYS2(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/**
 * os_random() - 64 random bits, good enough to spread addresses
 */
uint64_t os_random(void)
{
	uint64_t r = 0;

	if (SYS3(SYS_getrandom, &r, sizeof(r), GRND_NONBLOCK) == sizeof(r))
		return r;
	return os_now_ns() * 0x9E3779B97F4A7C15ULL ^ (uint64_t)os_getpid() << 32;
}

/**
 * os_is_secure() - does the program run with more rights than its caller?
 */
bool os_is_secure(void)
{
	return getauxval(AT_SECURE) != 0;
}

/**
 * os_page_size() - bytes in a page of memory
 */
size_t os_page_size(void)
{
	return getauxval(AT_PAGESZ);
}

/*
 * For the daemon.
 */

/**
 * os_unshare() - stop sharing something with the other threads
 * @flags: CLONE_*
 *
 * Return: 0 or -errno.
 */
int os_unshare(int flags)
{
	return (int)SYS1(SYS_unshare, flags);
}

/**
 * os_borrow_fd() - get a descriptor of the main thread into a table of one's own
 * @fd: its number there
 *
 * Needs Linux 5.6.
 *
 * Return: descriptor or -errno.
 */
int os_borrow_fd(int fd)
{
	int ret, pid_fd = (int)SYS2(SYS_pidfd_open, os_getpid(), 0);

	if (pid_fd < 0)
		return pid_fd;
	ret = (int)SYS3(SYS_pidfd_getfd, pid_fd, fd, 0);
	os_close(pid_fd);
	return ret;
}

/**
 * os_membarrier() - have other threads pass a full memory barrier
 * @cmd: MEMBARRIER_CMD_*
 *
 * Return: 0 or -errno.
 */
int os_membarrier(int cmd)
{
	return (int)SYS3(SYS_membarrier, cmd, 0, 0);
}

/**
 * os_leave_real_time() - schedule the calling thread as an ordinary one if it is more
 *
 * Return: 0 or -errno.
 */
int os_leave_real_time(void)
{
	const struct sched_param param = { 0 };
	long policy = SYS1(SYS_sched_getscheduler, 0);

	if (policy < 0)
		return (int)policy;
	policy &= ~SCHED_RESET_ON_FORK;
	if (policy != SCHED_FIFO && policy != SCHED_RR && policy != SCHED_DEADLINE)
		return 0;
	return (int)SYS3(SYS_sched_setscheduler, 0, SCHED_OTHER, &param);
}

/**
 * os_share_processors() - let the calling thread run where another one may
 * @tid: the other one
 *
 * Return: 0 or -errno.
 */
int os_share_processors(int tid)
{
	/* of 8192 processors */
	unsigned long own[128], other[128];
	long ret = SYS3(SYS_sched_getaffinity, 0, sizeof(own), own);

	if (ret >= 0)
		ret = SYS3(SYS_sched_getaffinity, tid, sizeof(other), other);
	if (ret < 0)
		return (int)ret;
	/* What was never set follows changes of the cpuset. */
	if (!memcmp(own, other, (size_t)ret))
		return 0;
	return (int)SYS3(SYS_sched_setaffinity, 0, ret, other);
}

/* What the dynamic linker gives to constructors; libc's own may come later. */
MESH_EARLY static char *const *start_environ;

__attribute__((constructor(101))) static void keep_environ(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	start_environ = envp;
}

/**
 * os_environ() - the environment the program was started with
 *
 * Return: NAME=value strings, or NULL before the first constructor.
 */
char *const *os_environ(void)
{
	return environ ? environ : start_environ;
}

/**
 * os_syscall() - whatever system call a program asks for
 *
 * Return: as the kernel gives it.
 */
long os_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	return sys6(nr, a, b, c, d, e, f);
}
