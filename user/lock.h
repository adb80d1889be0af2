/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * A futex mutex of four bytes (eight with rank checks) that never allocates.
 *
 * Order: a thread takes locks in growing rank and holds at most one of each rank;
 * only fork takes all class locks, in index order. The daemon takes those after LOCK_MESH
 * only while it holds that one: it is all that forks by a bare system call wait for.
 * MESH_DEBUG builds abort on a violation.
 *
 * While a thread is between the prepare and the parent/child step of fork it
 * owns every lock (lock_fork_enter); locking is then a no-op for it, so handlers
 * that other libraries registered before ours may still allocate.
 */
#ifndef MESH_LOCK_H
#define MESH_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "compiler.h"

enum lock_rank {
	LOCK_INIT = 1,		/* one-time set-up */
	LOCK_DAEMON,		/* start and stop of the daemon, its requests */
	LOCK_MESH,		/* held from a merge until the spans are joined, and to park */
	LOCK_THREADS,		/* list of thread caches */
	LOCK_CHECK,		/* quarantine of MESH_CHECK */
	LOCK_CLASS,		/* one per size class */
	LOCK_HEAP,		/* one per page heap; never two at once */
	LOCK_SPANS,		/* span descriptors */
	LOCK_HUGE,		/* table of huge objects */
	LOCK_SLOTS,		/* which page shows what (memfd backend) */
	LOCK_NR
};

struct lock {
	_Atomic uint32_t word;	/* 0 free, 1 held, 2 held with waiters */
#ifdef MESH_DEBUG
	uint32_t rank;
#endif
};

#ifdef MESH_DEBUG
#define LOCK_INITIALIZER(r)	{ .rank = (r) }
#else
#define LOCK_INITIALIZER(r)	{ .word = 0 }
#endif

extern MESH_TLS bool lock_fork_owner;

void lock_wait(struct lock *l);
void lock_wake(struct lock *l);

#ifdef MESH_DEBUG
void lock_rank_push(const struct lock *l);
void lock_rank_pop(const struct lock *l);
void lock_only_in_mesh(bool on);
#else
static inline void lock_rank_push(const struct lock *l) { (void)l; }
static inline void lock_rank_pop(const struct lock *l) { (void)l; }
static inline void lock_only_in_mesh(bool on) { (void)on; }
#endif

/**
 * lock_init() - make a lock usable that has no static initializer
 * @l: lock, not held
 * @rank: its place in the order
 */
static inline void lock_init(struct lock *l, enum lock_rank rank)
{
	atomic_init(&l->word, 0);
#ifdef MESH_DEBUG
	l->rank = rank;
#else
	(void)rank;
#endif
}

/**
 * lock_acquire() - take a lock, sleep until it is free
 * @l: lock
 */
static inline void lock_acquire(struct lock *l)
{
	uint32_t free = 0;

	if (unlikely(lock_fork_owner))
		return;
	lock_rank_push(l);
	if (unlikely(!atomic_compare_exchange_strong_explicit(&l->word, &free, 1,
			memory_order_acquire, memory_order_relaxed)))
		lock_wait(l);
}

/**
 * lock_release() - give a lock back
 * @l: lock held by the caller
 */
static inline void lock_release(struct lock *l)
{
	if (unlikely(lock_fork_owner))
		return;
	lock_rank_pop(l);
	/* pairs with the acquire in lock_acquire() and lock_wait() */
	if (unlikely(atomic_exchange_explicit(&l->word, 0, memory_order_release) == 2))
		lock_wake(l);
}

/**
 * lock_fork_acquire() - take a lock for the duration of fork, whatever its rank
 * @l: lock
 */
static inline void lock_fork_acquire(struct lock *l)
{
	lock_wait(l);
}

/**
 * lock_fork_release() - undo lock_fork_acquire(), in the parent or in the child
 * @l: lock
 */
static inline void lock_fork_release(struct lock *l)
{
	if (atomic_exchange_explicit(&l->word, 0, memory_order_release) == 2)
		lock_wake(l);
}

/**
 * lock_fork_enter() - the caller holds every lock: make locking a no-op for it
 */
static inline void lock_fork_enter(void)
{
	lock_fork_owner = true;
}

/**
 * lock_fork_leave() - undo lock_fork_enter(); the locks are still held
 */
static inline void lock_fork_leave(void)
{
	lock_fork_owner = false;
}

#endif /* MESH_LOCK_H */
