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
 *
 * What a thread that sleeps has in hand is taken back, see park.c. For that the fast paths
 * are one operation on one stack each, and begin by loading the pointer to the cache.
 */
#ifndef MESH_TCACHE_H
#define MESH_TCACHE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "lock.h"
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
 * @prev: list of all live caches; that of the first one is the last one
 * @next: list of all live caches, or of unused ones; NULL at the end
 * @home: where its thread has the pointer to it, or NULL: it cannot be parked
 * @told: its thread's end will be told
 * @pid: of its thread's process
 * @tid: of its thread
 * @busy: its thread is in a slow path, or the daemon parks it
 * @parked: its thread does not know it at present
 * @taken: by class, so many slots at the bottom of the stack are gone; not 0 if parked only
 * @visit: number of the last look for idle caches
 * @seen: what the stacks were like then
 * @storage: the stacks
 */
struct tcache {
	struct tcache_bin bins[NR_CLASSES];
	uint8_t batch[NR_CLASSES];
	uint8_t cap[NR_CLASSES];
	struct tcache *prev;
	struct tcache *next;
	struct tcache **_Atomic home;
	bool told;
	int pid;
	int tid;
	atomic_bool busy;
	atomic_bool parked;
	uint8_t taken[NR_CLASSES];
	uint32_t visit;
	uint32_t seen;
	void *storage[];
};

extern MESH_TLS struct tcache *tcache;

/* For park.c: no slots and no room, and the live caches with their lock. */
extern struct tcache tcache_none;
extern struct lock tcache_lock;
extern struct tcache *tcache_live;

static inline void **tcache_bin_base(const struct tcache *tc, unsigned int cls)
{
	return tc->bins[cls].end - tc->cap[cls];
}

static inline unsigned int tcache_bin_nr(const struct tcache *tc, unsigned int cls)
{
	return (unsigned int)(tc->bins[cls].top - tcache_bin_base(tc, cls));
}

/*
 * Each fast path has to load it anew, also when two are inlined into one function. (An
 * atomic load would do, but not as an operand of another instruction.)
 */
static inline struct tcache *tcache_current(void)
{
	__asm__ volatile("" : "+m"(tcache));
	return tcache;
}

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
	struct tcache_bin *bin = &tcache_current()->bins[cls];
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
	struct tcache_bin *bin = &tcache_current()->bins[cls];
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
 * tcache_forgo() - do without a cache from now on
 *
 * The daemon's, which holds the lock of the list of caches where a signal handler of the
 * program's may come in and allocate: when a call is trapped.
 */
void tcache_forgo(void);

/**
 * tcache_thread_leaves() - the calling thread may be about to end without its destructors
 */
void tcache_thread_leaves(void);

/**
 * tcache_unlink_dead() - take a cache off the list of live ones if its thread has ended
 * @tc: on the list, whose lock the caller holds
 *
 * Return: is it the caller's now, to be given to tcache_bury()?
 */
bool tcache_unlink_dead(struct tcache *tc);

/**
 * tcache_rotate() - the first live cache, which there is, becomes the last one
 *
 * The caller holds the lock of their list.
 */
void tcache_rotate(void);

/**
 * tcache_bury() - give what a dead thread has left to the central lists
 * @tc: its cache, which will be used again
 */
void tcache_bury(struct tcache *tc);

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
