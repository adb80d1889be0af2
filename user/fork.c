/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * fork: the forking thread takes every lock of the library, in rank order, so
 * that the child finds every structure whole. Until the locks are released again
 * locking is a no-op for that thread (lock.h), which lets the child repair what
 * other threads were in the middle of, and lets foreign handlers allocate.
 *
 * The C library takes the lock of its list of streams inside fork, before those of
 * its own malloc: somebody who flushes all streams holds that lock and waits for a
 * stream, whose owner may be waiting for the heap. So it comes first here, too.
 */
#include <pthread.h>

#include "central.h"
#include "check.h"
#include "daemon.h"
#include "huge.h"
#include "lock.h"
#include "pageheap.h"
#include "slots.h"
#include "tcache.h"

/* Of glibc, recursive; elsewhere there may be no such thing. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

static bool has_stream_lock(void)
{
	return _IO_list_lock && _IO_list_unlock && _IO_list_resetlock;
}

static void fork_prepare(void)
{
	if (has_stream_lock())
		_IO_list_lock();
	daemon_fork_prepare();
	tcache_fork_prepare();
	check_fork_prepare();
	central_fork_prepare();
	pageheap_fork_prepare(&heap_arena);
	pageheap_fork_prepare(&heap_anon);
	span_fork_prepare();
	huge_fork_prepare();
	slots_fork_prepare();
	lock_fork_enter();
}

static void fork_parent(void)
{
	slots_fork_done();
	huge_fork_done();
	span_fork_done();
	pageheap_fork_parent(&heap_anon);
	pageheap_fork_parent(&heap_arena);
	central_fork_parent();
	check_fork_done();
	tcache_fork_parent();
	lock_fork_leave();
	daemon_fork_parent();
	if (has_stream_lock())
		_IO_list_unlock();
}

static void fork_child(void)
{
	central_fork_child();
	pageheap_fork_child(&heap_anon);
	pageheap_fork_child(&heap_arena);
	span_fork_done();
	huge_fork_done();
	slots_fork_done();
	check_fork_done();
	tcache_fork_child();
	lock_fork_leave();
	daemon_fork_child();
	if (has_stream_lock())
		_IO_list_resetlock();
}

/*
 * The handlers of others run between ours and the fork, as they should, if they
 * were registered after ours. So this is the first constructor of the process: the
 * library is linked with -z initfirst. Without a heap yet, all locks are free.
 */
__attribute__((constructor)) static void fork_init(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}
