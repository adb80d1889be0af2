/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Large objects, of more than SLOT_MAX bytes: a run of pages of the anonymous page
 * heap each. Nothing is kept per object but its descriptor.
 */
#ifndef MESH_LARGE_H
#define MESH_LARGE_H

#include "pageheap.h"

#define LARGE_MAX	((size_t)RUN_MAX_PAGES << PAGE_SHIFT)

/* Longer alignments would leave too large gaps between runs. */
#define LARGE_ALIGN_MAX	((size_t)1 << 20)

/**
 * large_alloc() - allocate a run, or a mapping of its own
 * @size: bytes, 1 to PTRDIFF_MAX; up to LARGE_MAX a run is preferred, else a mapping
 * @align: power of two, at most LARGE_ALIGN_MAX
 * @zero: set to whether it reads as zero; may be NULL
 *
 * Return: its address, or NULL.
 */
void *large_alloc(size_t size, size_t align, bool *zero);

/**
 * large_span() - the object at an address
 * @p: address in an area, of a page that is not in use for slots
 *
 * Return: its descriptor; aborts when no object starts there.
 */
struct span *large_span(const void *p);

/**
 * large_free() - give an object back
 * @p: as for large_span()
 *
 * Says "double free" where large_span() says "use after free".
 */
void large_free(void *p);

/**
 * large_resize() - change an object's size in place
 * @s: from large_span()
 * @size: bytes, at least 1; an object that can grow where it is may exceed LARGE_MAX
 *
 * Return: whether that was possible.
 */
bool large_resize(struct span *s, size_t size);

/**
 * large_to_huge() - make a huge object of a run by moving its pages
 * @p: as for large_span()
 * @size: bytes, more than LARGE_MAX and more than it has
 *
 * Return: its new address, or NULL and nothing has changed.
 */
void *large_to_huge(void *p, size_t size);

static inline size_t large_size(const struct span *s)
{
	return (size_t)s->nr_pages << PAGE_SHIFT;
}

#endif /* MESH_LARGE_H */
