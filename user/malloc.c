/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The allocation functions of the C library. Who serves a request:
 *
 *	up to SLOT_MAX		a slot: tcache.c, central.c
 *	up to LARGE_MAX		a run of pages: large.c
 *	beyond			a mapping: huge.c
 *
 * Where one of the latter two cannot be had the other one serves.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "central.h"
#include "check.h"
#include "daemon.h"
#include "foreign.h"
#include "huge.h"
#include "init.h"
#include "large.h"
#include "message.h"

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

/* Where there is no room for a span, a mapping is a waste for small objects only. */
static void *alloc_slot(size_t size)
{
	unsigned int cls = sizeclass_of(size + check_room());
	void *p = tcache_refill(cls);

	if (unlikely(!p) && !sizeclass_is_small(cls))
		return huge_alloc(size, PAGE_SIZE);
	return unlikely(options.check) ? check_alloc(p, cls, size) : p;
}

/*
 * The daemon is started before the refill: starting a thread allocates, and must
 * not find this thread's bin half filled.
 */
MESH_NOINLINE void *alloc_slow(size_t size)
{
	void *p = NULL;

	if (unlikely(!heap_init()))
		return no_memory();
	daemon_poke();
	if (size <= SLOT_MAX - check_room())
		p = alloc_slot(size);
	else if (size <= PTRDIFF_MAX)
		p = large_alloc(size, PAGE_SIZE, NULL);
	return p ? p : no_memory();
}

static void free_foreign(void *p)
{
	if (!foreign_has(p))
		fatal("free of %p: not an address that malloc has returned", p);
	foreign_free(p);
}

/* A page without slots, or no page of ours. */
static void free_other(void *p)
{
	if (region_has_page(region_page(p)))
		large_free(p);
	else if (!huge_free(p))
		free_foreign(p);
}

MESH_NOINLINE void free_slow(void *p)
{
	unsigned int cls = class_of(p);

	if (!p)
		return;
	if (cls == CLASS_NONE)
		free_other(p);
	else if ((uintptr_t)p & (ALLOC_ALIGN - 1))
		central_return(cls, &p, 1);	/* which says what is wrong */
	else if (unlikely(options.check))
		check_free(p, cls);
	else
		tcache_overflow(cls, p);
}

MESH_EXPORT void *malloc(size_t size)
{
	return alloc(size);
}

MESH_EXPORT void free(void *p)
{
	release(p);
}

/* C23; glibc declares them from 2.43 on. */
MESH_EXPORT void free_sized(void *p, size_t size);
MESH_EXPORT void free_aligned_sized(void *p, size_t align, size_t size);

MESH_EXPORT void free_sized(void *p, size_t size)
{
	(void)size;
	release(p);
}

MESH_EXPORT void free_aligned_sized(void *p, size_t align, size_t size)
{
	(void)align;
	(void)size;
	release(p);
}

static void *alloc_zero_slot(size_t size)
{
	void *p = alloc(size);

	return likely(p) ? memset(p, 0, size) : NULL;
}

static void *alloc_zero_large(size_t size)
{
	bool zero;
	void *p;

	if (unlikely(size > PTRDIFF_MAX || !heap_init()))
		return no_memory();
	daemon_poke();
	p = large_alloc(size, PAGE_SIZE, &zero);
	if (unlikely(!p))
		return no_memory();
	return zero ? p : memset(p, 0, size);
}

MESH_EXPORT void *calloc(size_t n, size_t size)
{
	size_t bytes;

	if (unlikely(__builtin_mul_overflow(n, size, &bytes)))
		return no_memory();
	if (likely(bytes <= SLOT_MAX))
		return alloc_zero_slot(bytes);
	return alloc_zero_large(bytes);
}

static size_t size_of_foreign(void *p)
{
	if (!foreign_has(p))
		fatal("%p is not an address that malloc has returned", p);
	return foreign_size(p);
}

static size_t size_of_other(void *p)
{
	size_t size;

	if (region_has_page(region_page(p)))
		return large_size(large_span(p));
	size = huge_size(p);
	return size ? size : size_of_foreign(p);
}

static size_t size_of(void *p)
{
	unsigned int cls = class_of(p);

	if (unlikely(cls == CLASS_NONE))
		return size_of_other(p);
	return unlikely(options.check) ? check_size(p, cls) : sizeclasses[cls].size;
}

MESH_EXPORT size_t malloc_usable_size(void *p)
{
	return p ? size_of(p) : 0;
}

/* Runs grow where they are, or leave the page heap by page tables; mappings stay mappings. */
static void *resize_other(void *p, size_t size)
{
	if (!region_has_page(region_page(p)))
		return huge_realloc(p, size);
	if (large_resize(large_span(p), size))
		return p;
	return size > LARGE_MAX ? large_to_huge(p, size) : NULL;
}

/*
 * Who grows a block by small steps and has to move it gets room for more of them: blocks that
 * grow by turns and lie behind each other would else be copied at each step.
 */
static size_t with_room(size_t old_size, size_t size)
{
	if (old_size <= SLOT_MAX || size <= old_size || size - old_size >= old_size / 8)
		return size;
	return size <= LARGE_MAX ? min_size(size + size / 8, LARGE_MAX) : size;
}

/* ... and keeps it. */
static bool in_room(size_t old_size, size_t size)
{
	return size <= old_size && old_size - size <= old_size / 8;
}

static void *move_to(void *p, size_t old_size, size_t size)
{
	size_t room = with_room(old_size, size);
	void *new = alloc(room);

	if (unlikely(!new) && room > size)
		new = alloc(size);
	if (unlikely(!new))
		return NULL;
	memcpy(new, p, min_size(old_size, size));
	release(p);
	return new;
}

/* An object that would waste more than half of its room moves. */
static bool fits(size_t old_size, size_t size)
{
	return size <= old_size && size >= old_size / 2 && likely(!options.check);
}

/* Objects of another malloc stay its own: only it may know all that there is to them. */
static bool is_foreign(const void *p)
{
	return !region_has_page(region_page(p)) && !huge_size(p) && foreign_has(p);
}

MESH_EXPORT void *realloc(void *p, size_t size)
{
	size_t old_size;
	void *new;

	if (!p)
		return alloc(size);
	if (unlikely(is_foreign(p)))
		return foreign_realloc(p, size);
	if (unlikely(size == 0)) {
		release(p);
		return NULL;
	}
	old_size = size_of(p);
	if (unlikely(size > PTRDIFF_MAX))
		return no_memory();
	if (old_size > SLOT_MAX && size > SLOT_MAX) {
		if (in_room(old_size, size))
			return p;
		new = resize_other(p, size);
		if (new)
			return new;
	}
	if (fits(old_size, size))
		return p;
	new = move_to(p, old_size, size);
	/* Who wants less has got it already. */
	return unlikely(!new) && size <= old_size ? p : new;
}

MESH_EXPORT void *reallocarray(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (unlikely(__builtin_mul_overflow(n, size, &bytes)))
		return no_memory();
	return realloc(p, bytes);
}

/*
 * What glibc calls the same functions besides. Programs that wrap those call these: objects of
 * glibc's malloc would end in our free().
 */
MESH_ALSO(__libc_malloc, malloc);
MESH_ALSO(__libc_calloc, calloc);
MESH_ALSO(__libc_realloc, realloc);
MESH_ALSO(__libc_free, free);
MESH_ALSO(cfree, free);
