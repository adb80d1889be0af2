/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * mutex.c: pthread_mutex_init(3), for mutexes whose futexes are not private.
 *
 * Those that are robust and those for use between processes are shared for the C library
 * and, when their owner dies, for the kernel: nothing here comes between them as syscall.c
 * does. So pages that have one of them are not merged. Who asks for either does so here.
 *
 * Threads: any; holds the mesh lock for a moment, and waits for the end of a step for it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "alloc.h"
#include "backend.h"
#include "central.h"
#include "mesher.h"

typedef int init_fn(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);

/* The C library's; looked up again where two do so at the same time. */
static init_fn *_Atomic libc_init;

static init_fn *find_libc_init(void)
{
	init_fn *fn = atomic_load_explicit(&libc_init, memory_order_relaxed);

	if (!fn) {
		fn = (init_fn *)dlsym(RTLD_NEXT, "pthread_mutex_init");
		atomic_store_explicit(&libc_init, fn, memory_order_relaxed);
	}
	return fn;
}

static bool is_shared(const pthread_mutexattr_t *attr)
{
	int robust, pshared;

	if (!attr || pthread_mutexattr_getrobust(attr, &robust) ||
	    pthread_mutexattr_getpshared(attr, &pshared))
		return false;
	return robust == PTHREAD_MUTEX_ROBUST || pshared == PTHREAD_PROCESS_SHARED;
}

/*
 * dlsym(3) waits for whoever is in dlopen(3), and that may be waiting for the thread that makes
 * its first mutex. So not only then.
 */
__attribute__((constructor)) static void find_early(void)
{
	find_libc_init();
}

/* Between two steps, for in them spans are being merged. */
static void keep_page(const void *p)
{
	unsigned int cls = class_of(p);

	if (!sizeclass_is_small(cls))
		return;
	mesher_fork_prepare();
	central_keep(cls, p);
	mesher_fork_parent();
}

MESH_EXPORT int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
	init_fn *fn = find_libc_init();

	if (!fn)
		return EAGAIN;
	if (is_shared(attr) && backend_is_shared(mutex))
		keep_page(mutex);
	return fn(mutex, attr);
}
