/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Thread caches: for each class a stack of free slots that only its thread uses,
 * without lock or atomic. A class's stack holds TCACHE_BIN_BYTES or so.
 *
 * Before its first slow path a thread has tcache_none, and while it exits
 * tcache_dead: both are empty and have no room, so that the fast paths need no
 * test for them.
 *
 * Below each stack is a NULL: who pops from an empty one gets that.
 */
#ifndef MESH_TCACHE_H
#define MESH_TCACHE_H

#include <stdbool.h>

#include "sizeclass.h"

/**
 * struct tcache_bin - free slots of one class
 * @top: where the next slot is put; the one below it is the next to take
 * @end: end of the room for the stack
 */
struct tcache_bin {
	void **top;
	void **end;
};

/**
 * struct tcache - what one thread has in hand
 * @bins: by class; bin 0 is always empty
 * @batch: slots to ask for at the next refill, by class; grows with demand
 * @cap: slots that the stack has room for, by class; grows once
 * @prev: list of all live caches
 * @next: list of all live caches, or of unused ones
 * @storage: the stacks
 */
struct tcache {
	struct tcache_bin bins[NR_CLASSES];
	uint8_t batch[NR_CLASSES];
	uint8_t cap[NR_CLASSES];
	struct tcache *prev;
	struct tcache *next;
	void *storage[];
};

extern MESH_TLS struct tcache *tcache;

/**
 * tcache_init() - once, before any other thread can be here
 */
void tcache_init(void);

/**
 * tcache_pop() - take a slot
 * @cls: size class
 *
 * Return: the slot, or NULL when the bin is empty.
 */
static inline void *tcache_pop(unsigned int cls)
{
	struct tcache_bin *bin = &tcache->bins[cls];
	void **top = bin->top;
	void *p = top[-1];

	if (likely(p))
		bin->top = top - 1;
	return p;
}

/**
 * tcache_push() - keep a slot
 * @cls: size class of its page
 * @p: address
 *
 * Return: false when the bin is full, or @p is what was pushed last.
 */
static inline bool tcache_push(unsigned int cls, void *p)
{
	struct tcache_bin *bin = &tcache->bins[cls];
	void **top = bin->top;

	if (unlikely(top == bin->end) || unlikely(top[-1] == p))
		return false;
	*top = p;
	bin->top = top + 1;
	return true;
}

/**
 * tcache_refill() - get slots from the central lists
 * @cls: size class whose bin is empty
 *
 * Return: one of them, or NULL when there is no memory.
 */
void *tcache_refill(unsigned int cls);

/**
 * tcache_overflow() - take a slot that tcache_push() refused
 * @cls: size class of its page
 * @p: address
 */
void tcache_overflow(unsigned int cls, void *p);

/**
 * tcache_flush() - give everything the calling thread holds to the central lists
 */
void tcache_flush(void);

/**
 * tcache_count() - slots in thread caches
 * @counts: by class, added to
 *
 * Return: number of caches. Approximate while other threads run.
 */
unsigned int tcache_count(size_t counts[NR_CLASSES]);

void tcache_fork_prepare(void);
void tcache_fork_parent(void);
void tcache_fork_child(void);

#endif /* MESH_TCACHE_H */
