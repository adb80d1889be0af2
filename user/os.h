/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Every system call of the library goes through here. No function touches errno
 * or can be interposed; results below zero are negative errno values.
 */
#ifndef MESH_OS_H
#define MESH_OS_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "compiler.h"

/* A timeout that never comes. */
#define OS_FOREVER	UINT64_MAX

/* Is it an error of a system call that the process may not make, or not any more? */
static inline bool os_is_refusal(long ret)
{
	return ret == -EPERM || ret == -EACCES || ret == -ENOSYS;
}

/* Memory. Sizes and addresses are multiples of the page size. */
void *os_map(size_t len);
void *os_map_file(size_t len, int fd);
int os_map_at(void *addr, size_t len);
int os_map_file_at(void *addr, size_t len, int fd);
int os_map_over(void *addr, size_t len);
int os_map_file_over(void *addr, size_t len, int fd, uint64_t offset);
int os_unmap(void *addr, size_t len);
int os_grow_in_place(void *addr, size_t old_len, size_t new_len);
void *os_remap(void *addr, size_t old_len, size_t new_len);
void *os_move_pages(void *addr, size_t len);
int os_move_over(void *to, void *from, size_t len);
int os_madvise(void *addr, size_t len, int advice);
long os_read_memory(void *buf, uintptr_t addr, size_t len);

/* Files and descriptors. */
int os_open(const char *path, int flags);
int os_close(int fd);
long os_read(int fd, void *buf, size_t len);
long os_write(int fd, const void *buf, size_t len);
long os_read_at(int fd, void *buf, size_t len, uint64_t offset);
long os_write_at(int fd, const void *buf, size_t len, uint64_t offset);
int os_memfd(const char *name, bool sealing);
int os_seal_writes(int fd);
int os_truncate(int fd, uint64_t len);
int os_punch(int fd, uint64_t offset, uint64_t len);
int64_t os_blocks(int fd);
int os_ioctl(int fd, unsigned long request, void *arg);
int os_close_range(unsigned int first, unsigned int last, unsigned int flags);
int os_userfaultfd(int flags);
int os_signalfd(const sigset_t *mask, int flags);
int os_poll(struct pollfd *fds, unsigned int n, uint64_t timeout_ns);

/* Threads, time, randomness. */
int os_futex_wait(_Atomic uint32_t *word, uint32_t value, const struct timespec *timeout);
int os_futex_wake(_Atomic uint32_t *word, int nr);
long os_syscall(long nr, long a, long b, long c, long d, long e, long f);
int os_getpid(void);
int os_gettid(void);
int os_tgkill(int pid, int tid, int sig);
_Noreturn void os_exit_thread(int status);
int os_prctl_name(const char *name);
int os_prctl_timer_slack(unsigned long ns);
void os_sleep_ns(uint64_t ns);
uint64_t os_now_ns(void);
uint64_t os_random(void);
bool os_is_secure(void);
size_t os_page_size(void);
char *const *os_environ(void);

/* For the daemon. */
int os_unshare(int flags);
int os_borrow_fd(int fd);
int os_membarrier(int cmd);
int os_leave_real_time(void);
int os_share_processors(int tid);

#endif /* MESH_OS_H */
