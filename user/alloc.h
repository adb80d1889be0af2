/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The common paths of allocation, shared by the C functions and the C++ operators:
 * a table from size to class, and one pop from or push to a stack of the thread.
 */
#ifndef MESH_ALLOC_H
#define MESH_ALLOC_H

#include "region.h"
#include "sizeclass.h"
#include "tcache.h"

/* Every object is aligned to this. */
#define ALLOC_ALIGN	((size_t)16)

/**
 * alloc_slow() - allocate when the thread has no slot in hand
 * @size: bytes
 *
 * Return: an object, or NULL with errno set to ENOMEM.
 */
void *alloc_slow(size_t size);

/**
 * alloc_aligned() - allocate at a multiple of @align
 * @align: power of two
 * @size: bytes
 *
 * Return: an object, or NULL; errno is not touched.
 */
void *alloc_aligned(size_t align, size_t size);

/**
 * free_slow() - free what the fast path cannot
 * @p: address of an object, or NULL; anything else aborts
 */
void free_slow(void *p);

static inline void *alloc(size_t size)
{
	void *p = NULL;

	if (likely(size <= SIZE_FINE))
		p = tcache_pop(sizeclass_of(size));
	else if (size <= SLOT_MAX)
		p = tcache_pop(sizeclass_of(size));
	return likely(p) ? p : alloc_slow(size);
}

/**
 * class_of() - class of the slots in the page of an address
 * @p: any address
 *
 * Return: CLASS_NONE when the page has none, or is not ours.
 */
static inline unsigned int class_of(const void *p)
{
	size_t page = region_page(p);

	return likely(region_has_page(page)) ? region.page_class[page] : CLASS_NONE;
}

/* There is never room for slots of class CLASS_NONE. */
static inline void release(void *p)
{
	unsigned int cls = class_of(p);

	if (likely(!((uintptr_t)p & (ALLOC_ALIGN - 1))) && likely(tcache_push(cls, p)))
		return;
	free_slow(p);
}

#endif /* MESH_ALLOC_H */
