/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Which call fails, and how. A child of fork counts on by itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/meshhelper.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "compiler.h"
#include "fail.h"
#include "os_syscall.h"

static enum fail_how how;
static atomic_ulong counted;
static atomic_ulong at = ULONG_MAX;
static atomic_long fired = -1;

/* Of FAIL_EVER and FAIL_FILTER: what fails from then on. */
static atomic_bool again;
static atomic_long failing_nr, failing_request;

MESH_EXPORT void fail_arm(enum fail_how h, unsigned long nth)
{
	atomic_store(&at, ULONG_MAX);
	atomic_store(&again, false);
	atomic_store(&fired, -1);
	atomic_store(&counted, 0);
	how = h;
	atomic_store(&at, nth);
}

MESH_EXPORT void fail_disarm(void)
{
	atomic_store(&at, ULONG_MAX);
	atomic_store(&again, false);
}

MESH_EXPORT long fail_fired(void)
{
	return atomic_load(&fired);
}

MESH_EXPORT unsigned long fail_counted(void)
{
	return atomic_load(&counted);
}

/* What a call may well say where memory or descriptors are short; 0: it does not fail. */
static int usual_error(long nr, long b)
{
	switch (nr) {
	case SYS_mmap:
	case SYS_munmap:
	case SYS_mremap:
	case SYS_madvise:
	case SYS_membarrier:
	case SYS_unshare:
	case SYS_close_range:
	case SYS_fallocate:
	case SYS_process_vm_readv:
	case SYS_ppoll:
		return ENOMEM;
	case SYS_openat:
	case SYS_memfd_create:
	case SYS_userfaultfd:
	case SYS_signalfd4:
		return EMFILE;
	case SYS_read:
	case SYS_write:
	case SYS_pread64:
	case SYS_fstat:
	case SYS_ftruncate:
		return EIO;
	case SYS_pwrite64:
		return ENOSPC;
	case SYS_fcntl:
		return EBUSY;
	case SYS_close:
	case SYS_clock_nanosleep:
		return EINTR;
	case SYS_getrandom:
		return EAGAIN;
	case SYS_ioctl:
		return (unsigned long)b == UFFDIO_WAKE ? 0 : ENOMEM;
	case SYS_futex:
		return (b & FUTEX_CMD_MASK) == FUTEX_WAIT ? EINTR : 0;
	}
	return 0;
}

/* Without these threads could not wait for each other, nor end, nor know who they are. */
static int filter_error(long nr)
{
	switch (nr) {
	case SYS_futex:
	case SYS_exit:
	case SYS_getpid:
	case SYS_gettid:
		return 0;
	}
	return EPERM;
}

static int hole_error(long nr, long d)
{
	return nr == SYS_mmap && d & MAP_FIXED ? ENOMEM : 0;
}

static int lost_error(long nr, long b)
{
	return nr == SYS_ioctl && (unsigned long)b == MESHHELPER_IOC_MERGE ? EFAULT : 0;
}

static int error_of(long nr, long b, long d)
{
	if (how == FAIL_HOLE)
		return hole_error(nr, d);
	if (how == FAIL_LOST)
		return lost_error(nr, b);
	return how == FAIL_FILTER ? filter_error(nr) : usual_error(nr, b);
}

/* Whoever cannot put back what it has taken waits until there is memory. */
static bool ends(long nr, long b)
{
	return nr == SYS_ioctl && (unsigned long)b == UFFDIO_COPY;
}

static void note(long nr, long b)
{
	atomic_store(&fired, nr);
	if (how != FAIL_FILTER && (how != FAIL_EVER || ends(nr, b)))
		return;
	atomic_store(&failing_nr, nr);
	atomic_store(&failing_request, b);
	atomic_store(&again, true);
}

/* A filter refuses requests of all kinds. */
static bool fails_again(long nr, long b)
{
	return atomic_load(&again) && nr == atomic_load(&failing_nr) &&
	       (how == FAIL_FILTER || nr != SYS_ioctl || b == atomic_load(&failing_request));
}

/* Of FAIL_BURST: so many calls. */
#define BURST	5

static bool fails(long nr, long b, int error)
{
	unsigned long n, first = atomic_load(&at);

	if (!error)
		return false;
	n = atomic_fetch_add(&counted, 1) + 1;
	if (n != first && (how != FAIL_BURST || n < first || n - first >= BURST))
		return fails_again(nr, b);
	note(nr, b);
	return true;
}

/* Merge a copy of the batch at @arg, so that the results do not arrive. */
static void merge_in_vain(long fd, long arg)
{
	static struct meshhelper_pair pairs[MESHHELPER_MAX_PAIRS];
	struct meshhelper_batch batch = *(struct meshhelper_batch *)arg;

	memcpy(pairs, (void *)(uintptr_t)batch.pairs, batch.nr_pairs * sizeof(*pairs));
	batch.pairs = (uintptr_t)pairs;
	sys6(SYS_ioctl, fd, MESHHELPER_IOC_MERGE, (long)&batch, 0, 0, 0);
}

long fail_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	int error = error_of(nr, b, d);

	if (!fails(nr, b, error))
		return sys6(nr, a, b, c, d, e, f);
	if (how == FAIL_HOLE)
		sys6(SYS_munmap, a, b, 0, 0, 0, 0);
	if (how == FAIL_LOST)
		merge_in_vain(a, c);
	/* A descriptor is closed nevertheless. */
	if (error == EINTR && nr == SYS_close)
		sys6(nr, a, b, c, d, e, f);
	return -error;
}
