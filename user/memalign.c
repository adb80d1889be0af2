/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Aligned allocation: who serves it, and what each function calls an error. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>

#include "alloc.h"
#include "check.h"
#include "daemon.h"
#include "huge.h"
#include "init.h"
#include "large.h"

static bool is_power_of_two(size_t x)
{
	return x && !(x & (x - 1));
}

/* Slots are as aligned as their size is, spans as pages are. */
static void *alloc_aligned_slot(size_t align, size_t size)
{
	unsigned int cls = sizeclass_of_aligned(size + check_room(), align);
	void *p;

	if (cls == CLASS_NONE)
		return NULL;
	p = tcache_pop(cls);
	if (p)
		return p;
	p = tcache_refill(cls);
	return unlikely(options.check) ? check_alloc(p, cls, size) : p;
}

/* Long alignments leave gaps in the page heap, mappings do not. */
void *alloc_aligned(size_t align, size_t size)
{
	void *p = NULL;

	if (unlikely(size > PTRDIFF_MAX || !heap_init()))
		return NULL;
	daemon_poke();
	if (align <= PAGE_SIZE && size <= SLOT_MAX)
		p = alloc_aligned_slot(align, size);
	if (p)
		return p;
	if (align <= LARGE_ALIGN_MAX)
		return large_alloc(max_size(size, 1), align, NULL);
	return huge_alloc(max_size(size, 1), align);
}

static void *aligned_or_errno(size_t align, size_t size)
{
	void *p = alloc_aligned(align, size);

	if (unlikely(!p))
		errno = ENOMEM;
	return p;
}

MESH_EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
	void *p;

	if (!is_power_of_two(align) || align < sizeof(void *))
		return EINVAL;
	p = alloc_aligned(align, size);
	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

MESH_EXPORT void *aligned_alloc(size_t align, size_t size)
{
	if (!is_power_of_two(align)) {
		errno = EINVAL;
		return NULL;
	}
	return aligned_or_errno(align, size);
}

/* As glibc does: other alignments are rounded up to a power of two. */
MESH_EXPORT void *memalign(size_t align, size_t size)
{
	size_t power = ALLOC_ALIGN;

	if (align > SIZE_MAX / 2 + 1) {
		errno = EINVAL;
		return NULL;
	}
	while (power < align)
		power *= 2;
	return aligned_or_errno(power, size);
}

MESH_EXPORT void *valloc(size_t size)
{
	return aligned_or_errno(PAGE_SIZE, size);
}

MESH_EXPORT void *pvalloc(size_t size)
{
	size_t bytes = round_up(size, PAGE_SIZE);

	if (bytes < size) {
		errno = ENOMEM;
		return NULL;
	}
	return aligned_or_errno(PAGE_SIZE, max_size(bytes, PAGE_SIZE));
}

/* As in malloc.c. */
MESH_ALSO(__libc_memalign, memalign);
MESH_ALSO(__libc_valloc, valloc);
MESH_ALSO(__libc_pvalloc, pvalloc);
