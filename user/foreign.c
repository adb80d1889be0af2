/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * foreign.c: another malloc that the program is linked with.
 *
 * Some programs want more of an allocator than malloc(3) has. Redis gets objects from an arena of
 * jemalloc's by mallocx(), and asks malloc_usable_size() for their sizes. Objects that are not
 * ours are passed on to the functions that would be there without us. If those are the C
 * library's the address is wild, for nobody but malloc(3) gives out its objects.
 *
 * Threads: any; no lock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <pthread.h>
#include <stdbool.h>

#include "foreign.h"

static struct foreign foreign;
static bool found;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The object that a function is in. */
static const void *object_of(const void *fn)
{
	Dl_info info;

	return fn && dladdr(fn, &info) ? info.dli_fbase : NULL;
}

static void look(void)
{
	const void *object;

	*(void **)&foreign.free = dlsym(RTLD_NEXT, "free");
	*(void **)&foreign.realloc = dlsym(RTLD_NEXT, "realloc");
	*(void **)&foreign.usable_size = dlsym(RTLD_NEXT, "malloc_usable_size");
	object = object_of(*(void **)&foreign.free);
	found = object && object != object_of((const void *)gnu_get_libc_version) &&
		object == object_of(*(void **)&foreign.realloc) &&
		object == object_of(*(void **)&foreign.usable_size);
}

const struct foreign *foreign_malloc(void)
{
	pthread_once(&once, look);
	return found ? &foreign : NULL;
}
