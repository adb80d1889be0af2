/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The address plan. At a random base, aligned to 1 GiB:
 *
 *	base	+ 0		arena: small objects, memory of the backend
 *		+ 512 GiB	anon: everything else up to 32 MiB, anonymous memory
 *		+ 1 TiB		page_span[]: u32 for each page of both areas
 *		+ 1 TiB + 2 GiB	page_class[]: u8 for each page
 *		+ 1 TiB + 4 GiB	span_table[]
 *
 * Nothing is reserved: each part is mapped chunk by chunk from its start, the
 * tables in step with their area. An address belongs to the heap if its page is
 * below the mapped end of one of the two areas.
 *
 * The areas' ends are written under the lock of their page heap, after the tables
 * are in place, and read without lock: who holds an object knows a recent enough
 * value, and any older value only sends a free to the slow path. The tables of what
 * an area has had stay, so a value from before it became shorter does no harm.
 */
#ifndef MESH_REGION_H
#define MESH_REGION_H

#include <stdatomic.h>
#include <stdbool.h>

#include "compiler.h"

#define AREA_PAGES	((uint32_t)1 << (39 - PAGE_SHIFT))
#define ANON_FIRST_PAGE	AREA_PAGES
#define REGION_PAGES	(2 * (size_t)AREA_PAGES)

/**
 * struct region - the plan of this process
 * @base: first address
 * @arena_pages: pages mapped in the arena area
 * @anon_pages: pages mapped in the anon area
 * @page_class: size class of each page in use for slots, 0 for others
 * @page_span: index of the span descriptor; for runs without slots only the
 *	entries of the first and the last page are current
 */
struct region {
	uintptr_t base;
	_Atomic uint32_t arena_pages;
	_Atomic uint32_t anon_pages;
	uint8_t *page_class;
	uint32_t *page_span;
};

extern struct region region;

/**
 * region_init() - choose the base
 *
 * Return: whether there is an address range and memory for the first tables.
 */
bool region_init(void);

/**
 * region_map_tables() - make table entries usable
 * @page: first page of the area part that becomes usable
 * @nr: its length in pages
 *
 * Called in growing order for each area, under the lock of its heap.
 *
 * Return: 0 or -errno.
 */
int region_map_tables(uint32_t page, size_t nr);

/**
 * region_unmap_tables() - undo the latest region_map_tables() of an area
 * @page: as given there
 * @nr: as given there
 */
void region_unmap_tables(uint32_t page, size_t nr);

/**
 * region_map_spans() - extend the array of span descriptors
 * @used: bytes mapped so far
 * @len: bytes to add
 *
 * Return: 0 or -errno.
 */
int region_map_spans(size_t used, size_t len);

static inline char *region_page_addr(uint32_t page)
{
	return (char *)(region.base + ((size_t)page << PAGE_SHIFT));
}

/**
 * region_page() - page index of an address
 * @p: any address
 *
 * Return: its index; not below REGION_PAGES for most foreign addresses.
 */
static inline size_t region_page(const void *p)
{
	return ((uintptr_t)p - region.base) >> PAGE_SHIFT;
}

/**
 * region_has_page() - is a page mapped in one of the areas?
 * @page: index from region_page()
 */
static inline bool region_has_page(size_t page)
{
	return page < atomic_load_explicit(&region.arena_pages, memory_order_relaxed) ||
	       page - ANON_FIRST_PAGE <
		       atomic_load_explicit(&region.anon_pages, memory_order_relaxed);
}

#endif /* MESH_REGION_H */
