/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Span descriptors: what the library knows about a run of pages.
 *
 * A descriptor has 64 bytes and lives outside the pages it describes, in one
 * array that grows at a planned address; links are indices into it, 0 is nil.
 *
 *	          pageheap_alloc        slots taken
 *	  FREE ----------------> PARTIAL ----------> FULL
 *	(CLEAN/  <-------------    |  ^  <----------
 *	 DIRTY)    last slot       |  |   slot freed
 *	                   isolate v  | putback
 *	                        MESHING (no slot is handed out; frees still count)
 *
 * A mesh group is a circular list (group_next) of spans whose virtual pages show
 * the same physical pages. Its members' own[] are disjoint. New slots are handed
 * out from the head's addresses only; state, list links, nr_live and nr_members
 * are kept in the head. A span that was never meshed is a group of one.
 *
 * own[], group and lists of slot spans are under the lock of their class; free
 * runs are under the lock of their page heap.
 */
#ifndef MESH_SPAN_H
#define MESH_SPAN_H

#include "region.h"

#define SPAN_MAX_SLOTS	256
#define SPAN_WORDS	(SPAN_MAX_SLOTS / 64)

enum span_state {
	SPAN_UNUSED,	/* descriptor on the free list */
	SPAN_CLEAN,	/* free run that reads as zero */
	SPAN_DIRTY,	/* free run with old contents */
	SPAN_RECENT,	/* the same, kept whole for the next request of that length */
	SPAN_PURGING,	/* free run that is being given back to the system */
	SPAN_LOST,	/* run that could not be given back and must not be used yet */
	SPAN_LARGE,	/* run that is one object */
	SPAN_PARTIAL,	/* slots: on a partial list of its class */
	SPAN_FULL,	/* slots: on no list */
	SPAN_MESHING,	/* slots: isolated for the mesher */
	SPAN_MEMBER,	/* slots: in a mesh group, but not its head */
};

/**
 * struct span - one run of pages
 * @own: slots: bit i is set while slot i was handed out at this span's addresses
 * @nr_pages: runs without slots: length
 * @page: index of the first page in the region
 * @prev: list link
 * @next: list link; also links unused descriptors
 * @group_next: next member of the mesh group, itself when alone
 * @head: head of the mesh group, itself when alone
 * @nr_own: bits set in @own
 * @nr_live: head: sum of @nr_own of the members
 * @nr_members: head: spans in the group
 * @cls: size class, 0 for runs without slots
 * @state: enum span_state
 * @keep: head: the group is not to be merged with others
 */
struct span {
	union {
		uint64_t own[SPAN_WORDS];
		uint32_t nr_pages;
	};
	uint32_t page;
	uint32_t prev;
	uint32_t next;
	uint32_t group_next;
	uint32_t head;
	uint16_t nr_own;
	uint16_t nr_live;
	uint16_t nr_members;
	uint8_t cls;
	uint8_t state;
	uint8_t keep;
	uint8_t spare[3];
};

_Static_assert(sizeof(struct span) == 64, "a span descriptor is one cache line");

extern struct span *span_table;

static inline struct span *span_at(uint32_t id)
{
	return &span_table[id];
}

/**
 * span_of() - the span that an address is in
 * @p: address in a mapped page of an area
 */
static inline struct span *span_of(const void *p)
{
	return span_at(region.page_span[region_page(p)]);
}

static inline uint32_t span_id(const struct span *s)
{
	return (uint32_t)(s - span_table);
}

static inline struct span *span_head(const struct span *s)
{
	return span_at(s->head);
}

/**
 * span_new() - take a zeroed descriptor
 *
 * Return: the descriptor, or NULL when there is no memory for it.
 */
struct span *span_new(void);

/**
 * span_delete() - give a descriptor back
 * @s: descriptor on no list
 */
void span_delete(struct span *s);

/**
 * span_addr() - where a span's pages begin
 * @s: span of any kind
 */
static inline char *span_addr(const struct span *s)
{
	return region_page_addr(s->page);
}

/**
 * span_group_live() - slots in use in the physical pages of a mesh group
 * @head: head of the group
 * @live: OR of own[] of all members
 */
void span_group_live(const struct span *head, uint64_t live[SPAN_WORDS]);

/**
 * span_group_next() - iterate over a mesh group
 * @s: any member
 *
 * Return: the next member in the circle.
 */
static inline struct span *span_group_next(const struct span *s)
{
	return span_at(s->group_next);
}

/* Lists: doubly linked by index, first and last in the list head. */
struct span_list {
	uint32_t first;
	uint32_t last;
};

void span_list_add_tail(struct span_list *l, struct span *s);
void span_list_add_head(struct span_list *l, struct span *s);
void span_list_del(struct span_list *l, struct span *s);

void span_fork_prepare(void);
void span_fork_done(void);

#endif /* MESH_SPAN_H */
