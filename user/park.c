/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * park.c: emptying the caches of other threads, at no cost to their fast paths.
 *
 * The fast paths have no lock, no atomic and no flag, so a thread may stop in the middle of
 * one at any time and stay there for long: preempted, in a page fault, or in a signal handler
 * that waits, as garbage collectors make them. Nothing tells. This is what the daemon does:
 *
 *	1. make the cache busy: its thread is in no slow path, and gets into none that looks
 *	   at the cache. One that needs the slow path meanwhile does without a cache
 *	2. have the thread's pointer to its cache point to tcache_none
 *	3. membarrier(2): the thread passes a full barrier after 2 and before 4
 *	4. of each stack return all slots but the topmost to the central lists; note how many,
 *	   change nothing
 *	5. the cache is parked and not busy any more
 *
 * Why that is right. A fast path loads the pointer first. If it does so after the barrier of
 * 3, it finds no slot and no room in tcache_none, and goes the slow path, where the thread
 * makes the cache busy, moves what is left to the bottom (unpark()), and has its pointer point
 * to it again. Before the barrier it may have found the cache; but of the operations that
 * have, all but the last have ended before the barrier, since a thread does one thing at a
 * time, and the daemon sees what they did. The last one touches one stack, of which the daemon
 * has seen the top t. If it is a
 *
 *	pop that has not stored t - 1 yet, it takes the slot below t, which stayed; one that has
 *	stored it has loaded its slot before, from above what the daemon sees
 *
 *	push that has not stored t + 1 yet, it puts its slot where t points to; one that has
 *	stored it may not have stored its slot yet, but the daemon does not read that: it is
 *	the topmost, which stayed
 *
 * whenever that happens, even long after 5. What it stores is a slot at or above the topmost
 * and a top that is one more or less; the daemon reads and writes neither any more until the
 * cache has been unparked, by the same thread, so after that operation.
 *
 * A signal handler that interrupts a fast path and allocates breaks this, as it breaks the fast
 * paths themselves: malloc is not safe in signal handlers. One that interrupts anything else is
 * just another operation of its thread.
 *
 * The pointer is in the memory of a thread, which is there until the thread has taken its
 * cache off the list of live ones: under the lock of that list, which is held from 1 to 5. A
 * thread that ends without its destructors never does. One that ends by syscall() says
 * so before (tcache_thread_leaves()), and the kernel is asked for all: it no longer knows those
 * that have ended, unless their number has been used again. What they left is taken back.
 *
 * Idle is a cache whose stacks are as high as they were at the last look. That may be chance;
 * then its thread has one slow path more.
 *
 * All of it is done under the mesh lock, for nothing else keeps a child of a bare system call
 * (syscall.c) from getting a lock that is held.
 *
 * Threads: the daemon's, but for unpark().
 */
#include <linux/membarrier.h>
#include <string.h>

#include "central.h"
#include "mesher.h"
#include "os.h"
#include "park.h"

/* Caches that are looked at without giving up the locks, each with a system call. */
#define VISITS	64

static uint32_t look;

/* Does this thread hold the mesh lock, and that of the list, and the cache that it is at. */
static MESH_TLS bool no_forks, has_list;
static MESH_TLS struct tcache *current;

int park_open(void)
{
	return os_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

static void set_pointer(struct tcache **home, struct tcache *value)
{
	__atomic_store_n(home, value, __ATOMIC_RELAXED);
}

static void **top_of(const struct tcache *tc, unsigned int cls)
{
	return __atomic_load_n(&tc->bins[cls].top, __ATOMIC_RELAXED);
}

/* Step 4 for one stack. */
static unsigned int take_all_but_one(struct tcache *tc, unsigned int cls)
{
	void **base = tcache_bin_base(tc, cls), **top = top_of(tc, cls);

	if (top - base < 2)
		return 0;
	tc->taken[cls] = (uint8_t)(top - base - 1);
	central_return(cls, base, tc->taken[cls]);
	return tc->taken[cls];
}

/* Steps 2 to 5; how many slots were taken. */
static size_t empty(struct tcache *tc, struct tcache **home)
{
	size_t taken = 0;

	set_pointer(home, &tcache_none);
	if (os_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) {
		set_pointer(home, tc);
		return 0;
	}
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		taken += take_all_but_one(tc, cls);
	tc->parked = true;
	return taken;
}

static void finish(struct tcache *tc)
{
	current = NULL;
	atomic_store_explicit(&tc->busy, false, memory_order_release);
}

static size_t park(struct tcache *tc)
{
	struct tcache **home;
	size_t taken = 0;

	if (tc->pid != os_getpid())
		return 0;
	/* pairs with the release in tcache.c:leave() */
	if (atomic_exchange_explicit(&tc->busy, true, memory_order_acquire))
		return 0;
	current = tc;
	home = atomic_load_explicit(&tc->home, memory_order_relaxed);
	if (home)
		taken = empty(tc, home);
	finish(tc);
	return taken;
}

/* How high the stacks are, in one number; is there something to take? */
static uint32_t heights(const struct tcache *tc, bool *filled)
{
	uint32_t sum = 1;

	*filled = false;
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		uint32_t height = (uint32_t)(top_of(tc, cls) - tcache_bin_base(tc, cls));

		sum = sum * 31 + height;
		*filled |= height > 1;
	}
	return sum;
}

/* Is there something to take from a cache that is as it was? */
static bool is_idle(struct tcache *tc)
{
	uint32_t before = tc->seen;
	bool filled;

	if (tc->parked)
		return false;
	tc->seen = heights(tc, &filled);
	return filled && tc->seen == before;
}

static void forbid_forks(void)
{
	mesher_lock();
	no_forks = true;
}

static void allow_forks(void)
{
	no_forks = false;
	mesher_unlock();
}

static void take_list(void)
{
	lock_acquire(&tcache_lock);
	has_list = true;
}

static void leave_list(void)
{
	has_list = false;
	lock_release(&tcache_lock);
}

/* What was taken is gone, the rest is as if the cache had been parked without a hitch. */
void park_abandon(void)
{
	if (current) {
		current->parked = true;
		finish(current);
	}
	if (has_list)
		leave_list();
	if (no_forks)
		allow_forks();
	lock_only_in_mesh(false);
}

/*
 * The first cache, which becomes the last one; NULL when it was visited in this look. Those that
 * are linked meanwhile come first.
 */
static struct tcache *next_to_visit(void)
{
	struct tcache *tc = tcache_live;

	if (!tc || tc->visit == look)
		return NULL;
	tc->visit = look;
	tcache_rotate();
	return tc;
}

/* Some caches, up to one that is idle or dead; false if there are no more in this look. */
static bool visit_some(size_t *taken)
{
	struct tcache *tc = NULL;
	bool dead = false;
	unsigned int n;

	forbid_forks();
	take_list();
	for (n = 0; n < VISITS && (tc = next_to_visit()); n++) {
		dead = tcache_unlink_dead(tc);
		if (dead)
			break;
		if (is_idle(tc)) {
			*taken += park(tc);
			break;
		}
	}
	leave_list();
	if (dead)
		tcache_bury(tc);
	allow_forks();
	return tc != NULL;
}

/* The locks are given up now and then: new threads and forks wait for them. */
size_t park_idle(void)
{
	size_t taken = 0;

	look++;
	while (visit_some(&taken))
		;
	return taken;
}

/* Forks wait while slots are on their way from one list to another. */
static unsigned int take_waiting(unsigned int cls, bool all)
{
	unsigned int n;

	forbid_forks();
	n = central_return_idle(cls, all);
	allow_forks();
	return n;
}

/* Others may be filling them meanwhile, so there is an end to it. */
size_t park_transfers(bool all)
{
	size_t taken = 0;

	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		unsigned int n, sum = 0;

		do {
			n = take_waiting(cls, all);
			sum += n;
		} while (n && sum < TRANSFER_SLOTS);
		taken += sum;
	}
	return taken;
}

void unpark(struct tcache *tc)
{
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		void **base = tcache_bin_base(tc, cls);
		unsigned int left = tcache_bin_nr(tc, cls) - tc->taken[cls];

		if (!tc->taken[cls])
			continue;
		memmove(base, base + tc->taken[cls], left * sizeof(void *));
		tc->bins[cls].top = base + left;
		tc->taken[cls] = 0;
	}
	tc->parked = false;
}
