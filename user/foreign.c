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
 * Functions are looked for when the process starts: later dlsym(3) would wait for whoever is in
 * dlopen(3), and that may be waiting for a thread that frees something.
 *
 * Threads: any; no lock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <stdbool.h>

#include "compiler.h"
#include "foreign.h"

/**
 * struct malloc - what ours hides
 * @free: free(3)
 * @realloc: realloc(3)
 * @usable_size: malloc_usable_size(3)
 */
struct malloc {
	void (*free)(void *p);
	void *(*realloc)(void *p, size_t size);
	size_t (*usable_size)(void *p);
};

static struct malloc other;
static bool found;

/* What the other malloc is being asked for: if it is made of ours it comes back here. */
static MESH_TLS const void *asked;

/*
 * The object that a function is in. dladdr(3) looks for the function's name, too, among all that
 * the object has, which made every start twice as long. glibc 2.35 and later have the other.
 */
static const void *object_of(void *fn)
{
#ifdef DLFO_STRUCT_HAS_EH_DBASE
	struct dl_find_object object;

	return fn && !_dl_find_object(fn, &object) ? object.dlfo_link_map : NULL;
#else
	Dl_info info;

	return fn && dladdr(fn, &info) ? info.dli_fbase : NULL;
#endif
}

static bool same_object(void *fn, void *other_fn)
{
	const void *object = object_of(fn);

	return object && object == object_of(other_fn);
}

__attribute__((constructor)) static void look(void)
{
	void *next = dlsym(RTLD_NEXT, "free");

	if (!next || same_object(next, (void *)gnu_get_libc_version))
		return;
	*(void **)&other.free = next;
	*(void **)&other.realloc = dlsym(RTLD_NEXT, "realloc");
	*(void **)&other.usable_size = dlsym(RTLD_NEXT, "malloc_usable_size");
	found = same_object(next, *(void **)&other.realloc) &&
		same_object(next, *(void **)&other.usable_size);
}

bool foreign_has(const void *p)
{
	return found && asked != p;
}

void foreign_free(void *p)
{
	const void *before = asked;

	asked = p;
	other.free(p);
	asked = before;
}

void *foreign_realloc(void *p, size_t size)
{
	const void *before = asked;
	void *new;

	asked = p;
	new = other.realloc(p, size);
	asked = before;
	return new;
}

size_t foreign_size(void *p)
{
	const void *before = asked;
	size_t size;

	asked = p;
	size = other.usable_size(p);
	asked = before;
	return size;
}
