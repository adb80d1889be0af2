/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Central lists: for each size class the spans that have free slots, by how full
 * they are. Thread caches refill from here in batches, fullest span first, from a
 * random slot on, and return slots in batches; the mesher isolates sparse spans.
 *
 * What comes back in batches may wait in the class's transfer cache first, where the next
 * refill finds it.
 *
 * One lock per class. A slot that a thread cache holds counts as in use.
 */
#ifndef MESH_CENTRAL_H
#define MESH_CENTRAL_H

#include "lock.h"
#include "sizeclass.h"
#include "span.h"
#include "transfer.h"

/* Partial lists per class: list i holds groups that are i/8 to (i + 1)/8 full. */
#define CENTRAL_LISTS	8

/* Groups fuller than list CENTRAL_MESH_LISTS - 1 are not worth a meshing attempt. */
#define CENTRAL_MESH_LISTS	6

/**
 * struct central - the spans of one size class
 * @lock: protects the rest and the spans
 * @cls: index of the class
 * @list_magic: slots in use times this, shifted right by 24, is the index of the
 *	list in @partial; fits 32 bits because a full group is on no list
 * @partial: groups with free slots
 * @meshing: groups isolated for the mesher
 * @transfer: slots that came back and belong to no span's free ones yet
 * @rng: state of the generator of random slots
 * @nr_spans: spans of the class, members of mesh groups included
 * @nr_groups: mesh groups, groups of one included: physical spans
 * @nr_live: slots in use, those in thread caches and in @transfer included
 * @nr_refills: batches handed out
 * @nr_returns: batches that went back to spans
 */
struct central {
	struct lock lock;
	unsigned int cls;
	uint32_t list_magic;
	struct span_list partial[CENTRAL_LISTS];
	struct span_list meshing;
	struct transfer transfer;
	uint64_t rng;
	size_t nr_spans;
	size_t nr_groups;
	size_t nr_live;
	uint64_t nr_refills;
	uint64_t nr_returns;
} __attribute__((aligned(64)));

extern struct central centrals[NR_CLASSES];

void central_init(void);

/**
 * central_refill() - hand out free slots
 * @cls: size class
 * @out: receives the addresses
 * @nr: most to hand out, at least 1
 *
 * Return: number handed out, 0 when there is no memory.
 */
unsigned int central_refill(unsigned int cls, void **out, unsigned int nr);

/**
 * central_return() - take slots back
 * @cls: size class of every one
 * @ptrs: addresses as handed out
 * @nr: their number
 *
 * An address that is not a slot in use is reported, and the program aborted.
 */
void central_return(unsigned int cls, void *const *ptrs, unsigned int nr);

/**
 * central_return_soon() - take back slots that may be wanted again soon
 * @cls: size class of every one
 * @ptrs: addresses as handed out
 * @nr: their number
 *
 * As central_return(), but they may wait in the transfer cache first, and addresses are looked
 * at when they leave it for their spans, if they do.
 */
void central_return_soon(unsigned int cls, void *const *ptrs, unsigned int nr);

/**
 * central_return_idle() - empty a transfer cache of what nobody wants
 * @cls: size class
 * @all: of everything, not only of what was not wanted since the last call
 *
 * The daemon holds the mesh lock meanwhile.
 *
 * Return: slots that went back to their spans, a bounded number. 0 when there are no more.
 */
unsigned int central_return_idle(unsigned int cls, bool all);

/**
 * central_return_waiting() - empty all transfer caches
 *
 * Return: was there anything in them?
 */
bool central_return_waiting(void);

/**
 * central_must_have() - abort unless an address is a slot in use, as central_return() does
 * @cls: size class
 * @p: address in a page of the class
 */
void central_must_have(unsigned int cls, const void *p);

/* Spans of all classes: there are, were made since the start, were at most at a time. */
size_t central_spans_now(void);
size_t central_spans_made(void);
size_t central_spans_hwm(void);

/**
 * central_meshed_pages() - pages of a class that do without memory of their own
 * @cls: size class
 */
size_t central_meshed_pages(unsigned int cls);

/**
 * central_histogram() - mesh groups of a class by how full they are
 * @cls: size class
 * @counts: set to the lengths of the partial lists
 * @full: set to the number of groups without a free slot
 * @meshing: set to the number of those that are isolated
 */
void central_histogram(unsigned int cls, size_t counts[CENTRAL_LISTS], size_t *full,
		       size_t *meshing);

/**
 * struct mesh_cand - snapshot of one mesh group that is isolated from allocation
 * @span: the group's head
 * @live: OR of own[] of all members when the snapshot was taken; slots may be
 *	freed since, none is handed out
 * @nr_live: bits set in @live
 * @nr_members: spans in the group
 */
struct mesh_cand {
	struct span *span;
	uint64_t live[SPAN_WORDS];
	uint16_t nr_live;
	uint16_t nr_members;
};

/**
 * central_isolate() - take sparse groups out of allocation
 * @cls: size class, of the arena
 * @lists: of partial lists, the emptiest first: CENTRAL_MESH_LISTS, or up to CENTRAL_LISTS
 * @out: receives the snapshots, emptiest first
 * @max: most to take
 *
 * The groups are in state SPAN_MESHING afterwards: refills do not see them, frees
 * into them still work, and none of their members is freed. Every one must go
 * through central_join() or central_putback(). Groups that were put back come
 * after those of the same fullness that were not looked at yet.
 *
 * Return: number of snapshots.
 */
unsigned int central_isolate(unsigned int cls, unsigned int lists, struct mesh_cand *out,
			     unsigned int max);

/**
 * central_join() - make one group of two after the backend merged them
 * @cls: size class
 * @dst: group whose physical pages both use now; its head becomes the head of all
 *	and the snapshot is renewed
 * @src: group that gave up its pages; its snapshot is void, and @src->span NULL
 */
void central_join(unsigned int cls, struct mesh_cand *dst, struct mesh_cand *src);

/**
 * central_keep() - do not merge the span of an object any more
 * @cls: small class
 * @p: address in a slot of it
 *
 * Until all of its objects are gone. The mesh lock is held, so the span is not isolated.
 */
void central_keep(unsigned int cls, const void *p);

/**
 * central_putback() - give isolated groups back to allocation
 * @cls: size class
 * @c: snapshots; entries with a NULL span are skipped
 * @nr: their number
 *
 * Members without a slot in use are detached and freed, empty groups are freed.
 */
void central_putback(unsigned int cls, struct mesh_cand *c, unsigned int nr);

void central_fork_prepare(void);
void central_fork_parent(void);
void central_fork_child(void);

#endif /* MESH_CENTRAL_H */
