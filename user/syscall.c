/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * syscall.c: syscall(2), clone(2) and prctl(2), for programs that do with them what concerns
 * the heap.
 *
 * They wait on words in it. A futex that is not marked private is known to the kernel
 * by the page of the file it is in, and the helper's arena is a file's: when that page
 * is merged between a wait and its wake-up, the two no longer meet. Heap memory belongs
 * to one process, so every futex in it is private, whether or not it says so; here it
 * is made to say so. libstdc++'s std::future is a prominent one that does not.
 *
 * The C library's own locks do not come along here. Within a process they are marked
 * private, but for mutexes that are robust, see mutex.c; those for use between processes
 * have no business in the heap.
 *
 * And they fork, without the handlers of the C library. The child gets the heap as it
 * is, so no span may be on its way to another place.
 *
 * And threads end, without their destructors: from then on the daemon must not write to
 * their memory, and if it is the main thread the daemon must not be left alone. One that
 * forbids itself all system calls but its end cannot send the daemon away then, nor wake it
 * when it frees something, so it does so before.
 *
 * No state.
 */
#define _GNU_SOURCE
#include <asm/unistd.h>
#include <errno.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdarg.h>

#include "backend.h"
#include "daemon.h"
#include "mesher.h"
#include "os.h"
#include "tcache.h"

static bool has_two_words(long op)
{
	switch (op & FUTEX_CMD_MASK) {
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
	case FUTEX_WAKE_OP:
	case FUTEX_WAIT_REQUEUE_PI:
	case FUTEX_CMP_REQUEUE_PI:
		return true;
	}
	return false;
}

/* One flag is for both words: a word elsewhere may be meant to be shared. */
static long futex_op(const void *word, long op, const void *second)
{
	if (!backend_is_shared(word) || (has_two_words(op) && !backend_is_shared(second)))
		return op;
	return op | FUTEX_PRIVATE_FLAG;
}

/* What the kernel would refuse to read crashes the program here. */
static bool is_fork3(const struct clone_args *args, unsigned long size)
{
	return args && size >= CLONE_ARGS_SIZE_VER0 && !(args->flags & CLONE_VM) &&
	       !args->stack;
}

/* One with a stack of its own would not return here. */
static bool is_fork(long nr, long a, long b)
{
#ifdef __NR_fork
	if (nr == __NR_fork)
		return true;
#endif
	if (nr == __NR_clone3)
		return is_fork3((const struct clone_args *)a, (unsigned long)b);
	return nr == __NR_clone && !(a & CLONE_VM) && !b;
}

/* Does the caller of a fork sleep until the child ends? */
static bool is_suspended(long nr, long a)
{
	uint64_t flags = 0;

	if (nr == __NR_clone)
		flags = (uint64_t)a;
	else if (nr == __NR_clone3)
		flags = ((const struct clone_args *)a)->flags;
	return flags & CLONE_VFORK;
}

/*
 * The daemon holds no lock then; other threads may have held some, for ever. Nobody may wait
 * for the lock as long as somebody sleeps, who lets a step end and takes the chance that the
 * next one is not far yet.
 */
static void begin_fork(bool suspended)
{
	mesher_fork_prepare();
	if (suspended)
		mesher_fork_parent();
}

static void end_fork(bool suspended)
{
	if (!suspended)
		mesher_fork_parent();
}

static long fork_between_steps(long nr, long a, long b, long c, long d, long e, long f)
{
	bool suspended = is_suspended(nr, a);
	long ret;

	begin_fork(suspended);
	ret = os_syscall(nr, a, b, c, d, e, f);
	if (ret)
		end_fork(suspended);
	else
		daemon_fork_bare_child(!suspended);
	return ret;
}

/* What a child does that has a stack of its own; in its parent's, of which it has a copy. */
struct start {
	int (*fn)(void *);
	void *arg;
	bool suspended;
};

static int start_child(void *p)
{
	const struct start *start = p;

	daemon_fork_bare_child(!start->suspended);
	return start->fn(start->arg);
}

extern int __clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);

int mesh_clone(int (*fn)(void *), void *stack, int flags, void *arg, ...) __asm__("clone");

MESH_EXPORT int mesh_clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	struct start start = { .fn = fn, .arg = arg, .suspended = flags & CLONE_VFORK };
	void *parent_tid, *tls, *child_tid;
	va_list ap;
	int ret;

	/* Those that were not given are passed on as found, as the C library does it. */
	va_start(ap, arg);
	parent_tid = va_arg(ap, void *);
	tls = va_arg(ap, void *);
	child_tid = va_arg(ap, void *);
	va_end(ap);
	/* With another TLS nothing of ours can run in the child. */
	if (flags & (CLONE_VM | CLONE_SETTLS) || !fn || !stack)
		return __clone(fn, stack, flags, arg, parent_tid, tls, child_tid);
	begin_fork(start.suspended);
	ret = __clone(start_child, stack, flags, &start, parent_tid, tls, child_tid);
	end_fork(start.suspended);
	return ret;
}

static bool is_strict(long nr, long a, long b)
{
	return (nr == __NR_prctl && a == PR_SET_SECCOMP && b == SECCOMP_MODE_STRICT) ||
	       (nr == __NR_seccomp && a == SECCOMP_SET_MODE_STRICT);
}

long mesh_syscall(long nr, long a, long b, long c, long d, long e, long f) __asm__("syscall");

/*
 * The function is variadic for its callers. On the architectures of os_syscall.h that
 * makes no difference to where the arguments are, and those that were not given are
 * passed on as found, as the C library does it.
 */
MESH_EXPORT long mesh_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;

	if (nr == __NR_futex)
		b = futex_op((const void *)a, b, (const void *)e);
	if (nr == __NR_exit) {
		tcache_thread_leaves();
		daemon_thread_leaves();
	}
	if (is_strict(nr, a, b))
		daemon_thread_restricts();
	if (is_fork(nr, a, b))
		ret = fork_between_steps(nr, a, b, c, d, e, f);
	else
		ret = os_syscall(nr, a, b, c, d, e, f);
	if (ret >= 0 || ret < -4095)
		return ret;
	errno = (int)-ret;
	return -1;
}

/* As variadic as the former. */
int mesh_prctl(int option, long a, long b, long c, long d) __asm__("prctl");

MESH_EXPORT int mesh_prctl(int option, long a, long b, long c, long d)
{
	return (int)mesh_syscall(__NR_prctl, option, a, b, c, d, 0);
}
