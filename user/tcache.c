/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Life of thread caches and their slow paths. Live caches are on one list (for
 * statistics and fork), those of dead threads on another for reuse; LOCK_THREADS.
 *
 * A cache is torn down by a pthread key's destructor. Destructors that run later
 * and libc's own clean-up still allocate and free: tcache_dead sends them straight
 * to the central lists.
 *
 * After the destructors of a thread that never allocated, libc may free what belonged to
 * threads that ended before (their stacks make room). A cache made then has nobody to tear
 * it down, and its thread's memory is soon gone. So the first frees of such a thread do
 * without a cache, and one that is made for a free is not parked before the thread has
 * allocated. What threads leave behind nevertheless, also those that end by a bare system
 * call, is found by asking the kernel for them: by the daemon (park.c), and from time to
 * time before a cache is mapped.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "central.h"
#include "daemon.h"
#include "lock.h"
#include "message.h"
#include "options.h"
#include "os.h"
#include "park.h"
#include "tcache.h"

/* Bytes, slots that a bin may hold, at most 255, and what a new bin asks for. */
#define TCACHE_BIN_BYTES	16384
#define TCACHE_BIN_MAX		255
#define TCACHE_BIN_MIN		2
#define TCACHE_BATCH_START	4

/* Most slots of a new bin's stack: those of all bins are in two pages or three. */
#define TCACHE_BIN_FIRST	12

/*
 * Frees of a thread that has not allocated yet, until it gets a cache. Libc's own are two or
 * three for each stack that makes room, mostly for one or two stacks. Threads that do
 * nothing but free pay a lock each for so many, once.
 */
#define FREES_WITHOUT		256

/* Caches, before they are searched for those of dead threads for the first time. */
#define FIRST_SEARCH		64

/* Caches without a thread that are kept, and as many as there are with one. */
#define UNUSED_MIN		32

/* An empty stack without room. */
MESH_EARLY static void *no_slots[1];

#define NO_BIN		{ .top = no_slots + 1, .end = no_slots + 1 }

/* Requests have no class but 0 until tcache_init() is done. */
struct tcache tcache_none = { .bins = { [CLASS_NONE] = NO_BIN } };
MESH_EARLY static struct tcache tcache_dead;

MESH_TLS struct tcache *tcache = &tcache_none;

/* The thread's cache, also while it is parked. */
static MESH_TLS struct tcache *own;

/* While there is none. */
static MESH_TLS unsigned int frees_without;

MESH_EARLY struct lock tcache_lock = LOCK_INITIALIZER(LOCK_THREADS);
MESH_EARLY struct tcache *tcache_live;
MESH_EARLY static struct tcache *unused;
MESH_EARLY static unsigned int nr_live;
MESH_EARLY static unsigned int nr_unused;
MESH_EARLY static unsigned int search_at;
MESH_EARLY static pthread_key_t key;
MESH_EARLY static bool have_key;

/* Slots that a bin may hold, by class. */
MESH_EARLY static uint8_t bin_cap[NR_CLASSES];

static void init_caps(void)
{
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		size_t cap = TCACHE_BIN_BYTES / sizeclasses[cls].size;

		cap = max_size(min_size(cap, TCACHE_BIN_MAX), TCACHE_BIN_MIN);
		bin_cap[cls] = (uint8_t)cap;
	}
}

static unsigned int first_cap(unsigned int cls)
{
	return (unsigned int)min_size(bin_cap[cls], TCACHE_BIN_FIRST);
}

/* Where the full stack of @cls is, in entries of storage. Each stack has a NULL below it. */
static size_t full_stack(unsigned int cls)
{
	size_t slots = (NR_CLASSES - 1) * (1 + TCACHE_BIN_FIRST);

	for (unsigned int i = 1; i < cls; i++)
		slots += 1 + bin_cap[i];
	return slots;
}

static size_t tcache_bytes(void)
{
	return round_up(sizeof(struct tcache) + full_stack(NR_CLASSES) * sizeof(void *),
			PAGE_SIZE);
}

static void set_stack(struct tcache *tc, unsigned int cls, void **slots, unsigned int cap)
{
	slots[0] = NULL;
	tc->bins[cls] = (struct tcache_bin){ .top = slots + 1, .end = slots + 1 + cap };
	tc->cap[cls] = (uint8_t)cap;
}

static void init_bins(struct tcache *tc)
{
	void **slots = tc->storage;

	tc->bins[CLASS_NONE] = (struct tcache_bin)NO_BIN;
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		unsigned int cap = first_cap(cls);

		set_stack(tc, cls, slots, cap);
		tc->batch[cls] = (uint8_t)min_size(TCACHE_BATCH_START, (cap + 1) / 2);
		slots += 1 + cap;
	}
}

/*
 * Move the bin to a stack of full length, if it has none. Most threads of most programs
 * use most classes too little for that, and memory that is not used is not touched.
 */
static bool grow_stack(unsigned int cls)
{
	struct tcache *tc = tcache;
	void **from = tcache_bin_base(tc, cls);
	unsigned int nr = tcache_bin_nr(tc, cls);

	if (tc->cap[cls] == bin_cap[cls])
		return false;
	set_stack(tc, cls, tc->storage + full_stack(cls), bin_cap[cls]);
	memcpy(tc->bins[cls].top, from, nr * sizeof(void *));
	tc->bins[cls].top += nr;
	return true;
}

static void init_no_bins(struct tcache *tc)
{
	for (unsigned int cls = 0; cls < NR_CLASSES; cls++)
		tc->bins[cls] = (struct tcache_bin)NO_BIN;
}

/* Where no look for idle caches has been yet. */
static void link_live(struct tcache *tc)
{
	tc->visit = 0;
	tc->prev = tcache_live ? tcache_live->prev : tc;
	tc->next = tcache_live;
	if (tcache_live)
		tcache_live->prev = tc;
	tcache_live = tc;
	nr_live++;
}

static void unlink_live(struct tcache *tc)
{
	struct tcache *after;

	if (tc == tcache_live)
		tcache_live = tc->next;
	else
		tc->prev->next = tc->next;
	after = tc->next ? tc->next : tcache_live;
	if (after)
		after->prev = tc->prev;
	nr_live--;
}

/* The second one's prev is right already. */
void tcache_rotate(void)
{
	struct tcache *first = tcache_live, *last = first->prev;

	if (first == last)
		return;
	tcache_live = first->next;
	first->next = NULL;
	last->next = first;
}

static struct tcache *pop_unused(void)
{
	struct tcache *tc = unused;

	if (tc) {
		unused = tc->next;
		nr_unused--;
	}
	return tc;
}

/*
 * Where there are more of them than threads that may end and begin again, two go for each one
 * that comes, so that nothing is left of a crowd of threads.
 */
static void put_unused(struct tcache *tc)
{
	struct tcache *surplus = NULL;

	lock_acquire(&tcache_lock);
	tc->next = unused;
	unused = tc;
	nr_unused++;
	if (nr_unused > nr_live + UNUSED_MIN) {
		surplus = pop_unused();
		surplus->next = pop_unused();
		surplus->next->next = NULL;
	}
	lock_release(&tcache_lock);
	while (surplus) {
		tc = surplus;
		surplus = tc->next;
		/* As in huge_free(), there may be no room for two mappings instead of one. */
		if (os_unmap(tc, tcache_bytes()))
			os_madvise(tc, tcache_bytes(), MADV_DONTNEED);
	}
}

/*
 * A thread that the kernel does not know cannot run any more. Its cache is whole unless it
 * ended in a slow path. The thread of a process that shares our memory is not ours to ask for.
 */
bool tcache_unlink_dead(struct tcache *tc)
{
	int pid = os_getpid();

	if (tc == own || tc->pid != pid || os_tgkill(pid, tc->tid, 0) != -ESRCH ||
	    atomic_load_explicit(&tc->busy, memory_order_acquire))
		return false;
	unlink_live(tc);
	return true;
}

/* No lock is held: this may find a double free. */
void tcache_bury(struct tcache *tc)
{
	if (tc->parked)
		unpark(tc);
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		void **base = tcache_bin_base(tc, cls);
		unsigned int nr = tcache_bin_nr(tc, cls);

		if (nr)
			central_return(cls, base, nr);
		tc->bins[cls].top = base;
	}
	put_unused(tc);
}

/* Those of dead threads. The number of caches doubles from one search to the next. */
static struct tcache *search_dead(void)
{
	struct tcache *dead = NULL, *tc, *next;

	if (nr_live < max_size(search_at, FIRST_SEARCH))
		return NULL;
	for (tc = tcache_live; tc; tc = next) {
		next = tc->next;
		if (!tcache_unlink_dead(tc))
			continue;
		tc->next = dead;
		dead = tc;
	}
	search_at = 2 * nr_live;
	return dead;
}

static struct tcache *take_unused(void)
{
	struct tcache *tc, *dead = NULL, *next;

	lock_acquire(&tcache_lock);
	tc = pop_unused();
	if (!tc)
		dead = search_dead();
	lock_release(&tcache_lock);
	if (!dead)
		return tc;
	for (; dead; dead = next) {
		next = dead->next;
		tcache_bury(dead);
	}
	return take_unused();
}

/* A used one comes back with empty, initialised bins. */
static struct tcache *new_tcache(void)
{
	struct tcache *tc = take_unused();

	if (!tc) {
		tc = os_map(tcache_bytes());
		if (!tc)
			return NULL;
		if (options.check)
			init_no_bins(tc);
		else
			init_bins(tc);
	}
	tc->home = NULL;
	tc->told = false;
	tc->pid = os_getpid();
	tc->tid = os_gettid();
	lock_acquire(&tcache_lock);
	link_live(tc);
	lock_release(&tcache_lock);
	return tc;
}

/*
 * The key may need memory: by then the thread has its cache. There may be none, which is no
 * error of free().
 */
MESH_NOINLINE static bool attach(bool to_free)
{
	struct tcache *tc;
	int saved_errno = errno;

	if (to_free && ++frees_without <= FREES_WITHOUT)
		return false;
	tc = new_tcache();
	if (!tc)
		return false;
	own = tc;
	tcache = tc;
	tc->told = have_key && !pthread_setspecific(key, tc);
	errno = saved_errno;
	return true;
}

/*
 * Whoever allocates is not past its destructors, and has not ended. Without the key nobody
 * will say when the pointer is no more.
 */
MESH_NOINLINE static void allow_parking(void)
{
	if (own->told)
		atomic_store_explicit(&own->home, &tcache, memory_order_relaxed);
}

/* No lock and no system call: it may be in a handler, or not allowed any. */
void tcache_thread_leaves(void)
{
	if (own)
		atomic_store_explicit(&own->home, NULL, memory_order_relaxed);
}

static void thread_exit(void *arg)
{
	struct tcache *tc = arg;

	/* From here on nobody parks it. Busy it is if a signal handler has not returned to it. */
	lock_acquire(&tcache_lock);
	unlink_live(tc);
	lock_release(&tcache_lock);
	atomic_store_explicit(&tc->busy, false, memory_order_relaxed);
	tcache_flush();
	tcache = &tcache_dead;
	own = NULL;
	put_unused(tc);
	daemon_thread_exit();
}

void tcache_init(void)
{
	init_caps();
	init_no_bins(&tcache_none);
	init_no_bins(&tcache_dead);
	have_key = pthread_key_create(&key, thread_exit) == 0;
}

/*
 * Have the thread's cache for oneself, until leave(). Fails while there is none, and while
 * the daemon parks it or this is a signal handler in the middle of a slow path: whoever
 * fails does without. With @to_free there is none yet for a thread's first frees.
 */
static bool enter(bool to_free)
{
	if (unlikely(tcache == &tcache_dead) || unlikely(!own && !attach(to_free)))
		return false;
	/* pairs with the release in leave() and in park.c */
	if (unlikely(atomic_exchange_explicit(&own->busy, true, memory_order_acquire)))
		return false;
	if (unlikely(own->parked))
		unpark(own);
	tcache = own;
	return true;
}

static void leave(void)
{
	atomic_store_explicit(&own->busy, false, memory_order_release);
}

static void *refill_one(unsigned int cls)
{
	void *p;

	return central_refill(cls, &p, 1) ? p : NULL;
}

/* A bin that was parked may have got its slots back by now. */
static void *refill_bin(unsigned int cls)
{
	struct tcache_bin *bin = &tcache->bins[cls];
	uint8_t *batch = &tcache->batch[cls];
	unsigned int nr;

	if (unlikely(options.check))
		return refill_one(cls);
	if (unlikely(bin->top[-1]))
		return *--bin->top;
	if (*batch > tcache->cap[cls])
		grow_stack(cls);
	nr = central_refill(cls, bin->top, *batch);
	if (unlikely(nr == 0))
		return NULL;
	bin->top += nr - 1;
	*batch = (uint8_t)min_size(2u * *batch, (bin_cap[cls] + 1) / 2);
	return *bin->top;
}

void *tcache_refill(unsigned int cls)
{
	void *p;

	if (unlikely(!enter(false)))
		return refill_one(cls);
	if (unlikely(!atomic_load_explicit(&tcache->home, memory_order_relaxed)))
		allow_parking();
	p = refill_bin(cls);
	leave();
	return p;
}

/* Give the @nr slots that were pushed first to the central lists. */
static void flush_oldest(unsigned int cls, unsigned int nr)
{
	struct tcache_bin *bin = &tcache->bins[cls];
	void **base = tcache_bin_base(tcache, cls);

	if (!nr)
		return;
	central_return_soon(cls, base, nr);
	memmove(base, base + nr, (size_t)(bin->top - base - nr) * sizeof(void *));
	bin->top -= nr;
}

void tcache_overflow(unsigned int cls, void *p)
{
	struct tcache_bin *bin;

	if (unlikely(!enter(true))) {
		central_return(cls, &p, 1);
		return;
	}
	bin = &tcache->bins[cls];
	if (bin->top[-1] == p)
		fatal("double free of %p, an object of %u bytes", p, sizeclasses[cls].size);
	if (bin->top == bin->end && !grow_stack(cls))
		flush_oldest(cls, (bin_cap[cls] + 1) / 2);
	*bin->top++ = p;
	leave();
}

void tcache_flush(void)
{
	if (!own || !enter(true))
		return;
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		flush_oldest(cls, tcache_bin_nr(tcache, cls));
	leave();
}

/* Its thread may be at it meanwhile: a guess, but never an absurd one. */
static size_t slots_in(const struct tcache *tc, unsigned int cls)
{
	size_t nr = min_size(tcache_bin_nr(tc, cls), bin_cap[cls]), taken = tc->taken[cls];

	return nr > taken ? nr - taken : 0;
}

unsigned int tcache_count(size_t counts[NR_CLASSES])
{
	unsigned int nr = 0;

	lock_acquire(&tcache_lock);
	for (const struct tcache *tc = tcache_live; tc; tc = tc->next) {
		for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
			counts[cls] += slots_in(tc, cls);
		nr++;
	}
	lock_release(&tcache_lock);
	return nr;
}

void tcache_forgo(void)
{
	tcache = &tcache_dead;
}

void tcache_fork_prepare(void)
{
	lock_fork_acquire(&tcache_lock);
}

void tcache_fork_parent(void)
{
	lock_fork_release(&tcache_lock);
}

/*
 * Other threads' caches may have been in the middle of a push or pop: what they
 * hold stays in use for ever. Their number is that of the parent's threads.
 */
void tcache_fork_child(void)
{
	tcache_live = NULL;
	nr_live = 0;
	if (own && tcache != &tcache_dead) {
		own->pid = os_getpid();
		own->tid = os_gettid();
		link_live(own);
	}
	lock_fork_release(&tcache_lock);
}
