/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The array of span descriptors and lists of them. Unused descriptors are chained
 * through next; index 0 is never handed out. One lock for the array, LOCK_SPANS.
 */
#include <string.h>

#include "lock.h"
#include "region.h"
#include "span.h"

/* The array grows by an eighth, at least by this many descriptors. */
#define GROW_MIN	1024

MESH_EARLY struct span *span_table;

MESH_EARLY static struct lock lock = LOCK_INITIALIZER(LOCK_SPANS);
MESH_EARLY static uint32_t first_unused;
static size_t nr_used = 1;	/* descriptors ever handed out, and nil */
MESH_EARLY static size_t nr_mapped;

static bool grow_table(void)
{
	size_t len = (GROW_MIN + nr_mapped / 8) * sizeof(struct span) & PAGE_MASK;

	if (region_map_spans(nr_mapped * sizeof(struct span), len))
		return false;
	nr_mapped += len / sizeof(struct span);
	return true;
}

static struct span *take_unused(void)
{
	struct span *s = span_at(first_unused);

	first_unused = s->next;
	memset(s, 0, sizeof(*s));
	return s;
}

struct span *span_new(void)
{
	struct span *s = NULL;

	lock_acquire(&lock);
	if (first_unused)
		s = take_unused();
	else if (nr_used < nr_mapped || grow_table())
		s = span_at((uint32_t)nr_used++);
	lock_release(&lock);
	return s;
}

void span_delete(struct span *s)
{
	lock_acquire(&lock);
	s->state = SPAN_UNUSED;
	s->next = first_unused;
	first_unused = span_id(s);
	lock_release(&lock);
}

void span_group_live(const struct span *head, uint64_t live[SPAN_WORDS])
{
	const struct span *s = head;

	memset(live, 0, SPAN_WORDS * sizeof(live[0]));
	do {
		for (int i = 0; i < SPAN_WORDS; i++)
			live[i] |= s->own[i];
		s = span_group_next(s);
	} while (s != head);
}

void span_list_add_tail(struct span_list *l, struct span *s)
{
	uint32_t id = span_id(s);

	s->next = 0;
	s->prev = l->last;
	if (l->last)
		span_at(l->last)->next = id;
	else
		l->first = id;
	l->last = id;
}

void span_list_add_head(struct span_list *l, struct span *s)
{
	uint32_t id = span_id(s);

	s->prev = 0;
	s->next = l->first;
	if (l->first)
		span_at(l->first)->prev = id;
	else
		l->last = id;
	l->first = id;
}

void span_list_del(struct span_list *l, struct span *s)
{
	if (s->prev)
		span_at(s->prev)->next = s->next;
	else
		l->first = s->next;
	if (s->next)
		span_at(s->next)->prev = s->prev;
	else
		l->last = s->prev;
	s->prev = 0;
	s->next = 0;
}

void span_fork_prepare(void)
{
	lock_fork_acquire(&lock);
}

void span_fork_done(void)
{
	lock_fork_release(&lock);
}
