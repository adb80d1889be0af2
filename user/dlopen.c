/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * dlopen.c: dlopen(3) without RTLD_DEEPBIND.
 *
 * A library that is opened with it finds malloc and free in the C library that it needs, before
 * anything that is preloaded: one allocator's objects end in the free() of the other. PHP opens
 * its extensions so. What the flag is for, two libraries with functions of the same name, is rare,
 * and there the first one is found, as it is without the flag.
 *
 * The C library looks at who has called dlopen(): his RUNPATH is searched, and what is opened
 * belongs to his namespace. So that has to be a tail call.
 *
 * Threads: any; no lock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "compiler.h"
#include "message.h"

#if __has_attribute(musttail)
#define TAIL_CALL	__attribute__((musttail)) return
#define CALLS_IN_TAIL
#else
#define TAIL_CALL	return
#define CALLS_IN_TAIL	__attribute__((optimize("O2")))
#endif

typedef void *dlopen_fn(const char *file, int mode);

/* The C library's; looked up again where two do so at the same time. */
static dlopen_fn *_Atomic libc_dlopen;

MESH_NOINLINE static void *no_dlopen(const char *file, int mode)
{
	(void)file;
	(void)mode;
	return NULL;
}

MESH_COLD static void find_dlopen(void)
{
	dlopen_fn *fn = (dlopen_fn *)dlsym(RTLD_NEXT, "dlopen");

	atomic_store_explicit(&libc_dlopen, fn ? fn : no_dlopen, memory_order_relaxed);
}

MESH_COLD static void tell(const char *file)
{
	static atomic_bool told;

	if (file && !atomic_exchange(&told, true))
		verbose("RTLD_DEEPBIND is ignored: %s would have another malloc", file);
}

MESH_EXPORT CALLS_IN_TAIL void *dlopen(const char *file, int mode)
{
	if (unlikely(!atomic_load_explicit(&libc_dlopen, memory_order_relaxed)))
		find_dlopen();
	if (unlikely(mode & RTLD_DEEPBIND))
		tell(file);
	TAIL_CALL atomic_load_explicit(&libc_dlopen, memory_order_relaxed)(file,
								   mode & ~RTLD_DEEPBIND);
}
