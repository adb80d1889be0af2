/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * fork: the forking thread takes every lock of the library, in rank order, so
 * that the child finds every structure whole. Until the locks are released again
 * locking is a no-op for that thread (lock.h), which lets the child repair what
 * other threads were in the middle of, and lets foreign handlers allocate.
 */
#include <pthread.h>

#include "central.h"
#include "daemon.h"
#include "huge.h"
#include "init.h"
#include "lock.h"
#include "pageheap.h"
#include "tcache.h"

static void fork_prepare(void)
{
	daemon_fork_prepare();
	tcache_fork_prepare();
	central_fork_prepare();
	pageheap_fork_prepare(&heap_arena);
	pageheap_fork_prepare(&heap_anon);
	span_fork_prepare();
	huge_fork_prepare();
	lock_fork_enter();
}

static void fork_parent(void)
{
	huge_fork_done();
	span_fork_done();
	pageheap_fork_parent(&heap_anon);
	pageheap_fork_parent(&heap_arena);
	central_fork_parent();
	tcache_fork_parent();
	lock_fork_leave();
	daemon_fork_parent();
}

static void fork_child(void)
{
	central_fork_child();
	pageheap_fork_child(&heap_anon);
	pageheap_fork_child(&heap_arena);
	span_fork_done();
	huge_fork_done();
	tcache_fork_child();
	lock_fork_leave();
	daemon_fork_child();
}

void fork_init(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}
