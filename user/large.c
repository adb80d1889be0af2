/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Large objects: page runs, and what is wrong with an address that is none. */
#include "central.h"
#include "daemon.h"
#include "huge.h"
#include "large.h"
#include "message.h"
#include "region.h"

static size_t pages_for(size_t size)
{
	return (size + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

static void *alloc_run(size_t size, size_t align, bool *zero)
{
	size_t align_pages = max_size(align >> PAGE_SHIFT, 1);
	struct span *s = pageheap_alloc(&heap_anon, pages_for(size), align_pages, zero);

	return likely(s) ? span_addr(s) : NULL;
}

static void *alloc_mapping(size_t size, size_t align, bool *zero)
{
	if (zero)
		*zero = true;
	return huge_alloc(size, align);
}

/*
 * Only malloc_trim() gives the address space of free runs back. If there is a limit to that,
 * they may be where there is room.
 */
static void *alloc_spare(size_t size, size_t align, bool *zero)
{
	if (pages_for(size) > pageheap_spare(&heap_anon))
		return NULL;
	return alloc_run(size, align, zero);
}

static void *alloc_anywhere(size_t size, size_t align, bool *zero)
{
	void *p = size <= LARGE_MAX ? alloc_run(size, align, zero) : NULL;

	if (likely(p))
		return p;
	p = alloc_mapping(size, align, zero);
	return p || size <= LARGE_MAX ? p : alloc_spare(size, align, zero);
}

void *large_alloc(size_t size, size_t align, bool *zero)
{
	void *p = alloc_anywhere(size, align, zero);

	if (likely(p) || !central_return_waiting())
		return p;
	return alloc_anywhere(size, align, zero);
}

static bool is_free_state(const struct span *s)
{
	return s->state >= SPAN_CLEAN && s->state <= SPAN_PURGING;
}

/* No object in use starts at @p. */
_Noreturn MESH_COLD static void bad_free(const void *p, const struct span *s)
{
	if (is_free_state(s))
		fatal("double free of %p: its page is free", p);
	fatal("free of %p: no object starts there", p);
}

_Noreturn MESH_COLD static void bad_use(const void *p, const struct span *s)
{
	if (is_free_state(s))
		fatal("use after free of %p: its page is free", p);
	fatal("%p is not an address that malloc has returned", p);
}

static bool is_large(const void *p, const struct span *s)
{
	return likely(s->state == SPAN_LARGE && span_addr(s) == p);
}

struct span *large_span(const void *p)
{
	struct span *s = span_of(p);

	if (!is_large(p, s))
		bad_use(p, s);
	return s;
}

void large_free(void *p)
{
	struct span *s = span_of(p);
	size_t pages = s->nr_pages;

	if (!is_large(p, s) || unlikely(!pageheap_free(&heap_anon, s)))
		bad_free(p, s);
	daemon_note_free(pages);
}

void *large_to_huge(void *p, size_t size)
{
	struct span *s = large_span(p);
	void *new = huge_adopt(p, large_size(s), size);

	if (new)
		pageheap_free_purged(&heap_anon, s);
	return new;
}

bool large_resize(struct span *s, size_t size)
{
	size_t before = s->nr_pages, after = pages_for(size);
	bool done = after < AREA_PAGES && pageheap_resize(&heap_anon, s, after);

	if (done && after < before)
		daemon_note_free(before - after);
	return done;
}
