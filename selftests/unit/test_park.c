/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Caches of idle threads are emptied, and no slot has two owners, whatever a thread is in
 * the middle of.
 */
#define _GNU_SOURCE
#include <asm/unistd.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "alloc.h"
#include "central.h"
#include "mesher.h"
#include "os.h"
#include "park.h"
#include "tcache.h"
#include "unit.h"

#define CLS	CLASS_256
#define SIZE	256
#define SLOTS	64

static pthread_barrier_t barrier;

static void set_up(void)
{
	unit_heap();
	tcache_init();
	CHECK_EQ(park_open(), 0);
}

static atomic_bool no_room;

/* For the library, too. */
int pthread_setspecific(pthread_key_t key, const void *value)
{
	int (*real)(pthread_key_t key, const void *value);

	if (atomic_load(&no_room)) {
		errno = ENOMEM;
		return ENOMEM;
	}
	*(void **)&real = dlsym(RTLD_NEXT, "pthread_setspecific");
	return real(key, value);
}

static void *take(unsigned int cls)
{
	void *p = tcache_pop(cls);

	return p ? p : tcache_refill(cls);
}

static void give(unsigned int cls, void *p)
{
	if (!tcache_push(cls, p))
		tcache_overflow(cls, p);
}

static size_t cached(unsigned int cls)
{
	size_t counts[NR_CLASSES] = { 0 };

	tcache_count(counts);
	return counts[cls];
}

/* Fill the bin of a class; afterwards all but a few of its slots are cached. */
static void fill(unsigned int cls)
{
	void *p[SLOTS];
	unsigned int i;

	for (i = 0; i < SLOTS; i++)
		p[i] = take(cls);
	for (i = 0; i < SLOTS; i++)
		give(cls, p[i]);
}

static void *filler(void *unused)
{
	fill(CLS);
	fill(CLS + 1);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	/* there is one left in each, and there are more to be had */
	fill(CLS);
	CHECK(cached(CLS) >= SLOTS / 2);
	return unused;
}

TEST(sleepers_give_back)
{
	pthread_t t;
	size_t live, taken, before;

	set_up();
	CHECK(!pthread_barrier_init(&barrier, NULL, 2));
	CHECK(!pthread_create(&t, NULL, filler, NULL));
	pthread_barrier_wait(&barrier);
	before = cached(CLS) + cached(CLS + 1);
	live = centrals[CLS].nr_live + centrals[CLS + 1].nr_live;
	CHECK(before >= SLOTS);
	CHECK_EQ(live, before);
	/* the first look only sees what there is */
	CHECK_EQ(park_idle(), 0);
	taken = park_idle();
	CHECK_EQ(taken, before - 2);
	CHECK_EQ(cached(CLS), 1);
	CHECK_EQ(cached(CLS + 1), 1);
	CHECK_EQ(centrals[CLS].nr_live + centrals[CLS + 1].nr_live, 2);
	CHECK_EQ(park_idle(), 0);
	pthread_barrier_wait(&barrier);
	pthread_join(t, NULL);
	CHECK_EQ(cached(CLS), 0);
	CHECK_EQ(centrals[CLS].nr_live, 0);
	CHECK_EQ(centrals[CLS + 1].nr_live, 0);
}

/* A thread that is parked, and then ends. */
static void *leaver(void *unused)
{
	fill(CLS);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return unused;
}

TEST(parked_threads_end)
{
	pthread_t t;

	set_up();
	CHECK(!pthread_barrier_init(&barrier, NULL, 2));
	CHECK(!pthread_create(&t, NULL, leaver, NULL));
	pthread_barrier_wait(&barrier);
	park_idle();
	CHECK(park_idle() > 0);
	pthread_barrier_wait(&barrier);
	pthread_join(t, NULL);
	CHECK_EQ(centrals[CLS].nr_live, 0);
	/* the cache has a new thread, and nothing of the old one */
	CHECK(!pthread_create(&t, NULL, leaver, NULL));
	pthread_barrier_wait(&barrier);
	CHECK(cached(CLS) >= SLOTS / 2);
	park_idle();
	CHECK(park_idle() > 0);
	CHECK_EQ(cached(CLS), 1);
	pthread_barrier_wait(&barrier);
	pthread_join(t, NULL);
}

/* A thread whose end will not be told: it has a cache, which is left alone. */
TEST(no_room_for_the_key)
{
	set_up();
	atomic_store(&no_room, true);
	errno = 0;
	fill(CLS);
	CHECK_EQ(errno, 0);
	CHECK(cached(CLS) >= SLOTS / 2);
	for (unsigned int i = 0; i < 3; i++)
		CHECK_EQ(park_idle(), 0);
}

static unsigned int nr_caches(void)
{
	size_t counts[NR_CLASSES] = { 0 };

	return tcache_count(counts);
}

/* The address sanitizer does not stand threads that vanish. */
#ifdef __SANITIZE_ADDRESS__
#define CAN_VANISH	false
#else
#define CAN_VANISH	true
#endif

static int ended_tid;

/* Ends without a word. */
static _Noreturn void vanish(void)
{
	ended_tid = os_gettid();
	os_syscall(__NR_exit, 0, 0, 0, 0, 0, 0);
	abort();
}

static void *vanisher(void *unused)
{
	fill(CLS);
	fill(CLS + 1);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	vanish();
	return unused;
}

/* Its end is told a little before the kernel forgets it. */
static void run_to_its_end(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	CHECK(!pthread_create(&t, NULL, fn, arg));
	pthread_join(t, NULL);
	while (os_tgkill(os_getpid(), ended_tid, 0) != -ESRCH)
		usleep(1000);
}

static void *look_and_let_go(void *looks)
{
	pthread_barrier_wait(&barrier);
	for (uintptr_t i = 0; i < (uintptr_t)looks; i++)
		park_idle();
	pthread_barrier_wait(&barrier);
	return NULL;
}

/* Parked or not, what threads that vanish have in hand is found. */
static void vanish_after(unsigned int looks)
{
	pthread_t t;

	CHECK(!pthread_create(&t, NULL, look_and_let_go, (void *)(uintptr_t)looks));
	run_to_its_end(vanisher, NULL);
	pthread_join(t, NULL);
	CHECK_EQ(nr_caches(), 1);
	CHECK(centrals[CLS].nr_live > 0);
	park_idle();
	CHECK_EQ(nr_caches(), 0);
	CHECK_EQ(centrals[CLS].nr_live, 0);
	CHECK_EQ(centrals[CLS + 1].nr_live, 0);
}

TEST(dead_owners)
{
	pthread_t t;

	if (!CAN_VANISH)
		return;
	set_up();
	CHECK(!pthread_barrier_init(&barrier, NULL, 2));
	vanish_after(0);
	vanish_after(2);
	/* the cache is as good as new */
	CHECK(!pthread_create(&t, NULL, filler, NULL));
	look_and_let_go((void *)2);
	pthread_join(t, NULL);
	CHECK_EQ(centrals[CLS].nr_live, 0);
}

static void *freer(void *slots)
{
	for (void **p = slots; *p; p++)
		give(CLS, *p);
	vanish();
	return slots;
}

static void *says_so_and_vanishes(void *unused)
{
	fill(CLS);
	tcache_thread_leaves();
	vanish();
	return unused;
}

/* The youngest cache's thread has ended; another has its number. */
static void number_is_used_again(void)
{
	CHECK_EQ(tcache_live->tid, ended_tid);
	tcache_live->tid = os_gettid();
	for (unsigned int i = 0; i < 3; i++)
		park_idle();
	CHECK(!tcache_live->parked);
}

#define FREED	1000

TEST(numbers_used_again)
{
	void *p[FREED + 1] = { NULL };
	unsigned int i;

	if (!CAN_VANISH)
		return;
	set_up();
	for (i = 0; i < FREED; i++)
		p[i] = take(CLS);
	run_to_its_end(freer, p);
	CHECK_EQ(nr_caches(), 2);
	number_is_used_again();
	run_to_its_end(says_so_and_vanishes, NULL);
	CHECK_EQ(nr_caches(), 3);
	number_is_used_again();
}

/* As libc does in the last moments of a thread. */
TEST(few_frees_make_no_cache)
{
	void *p[SLOTS + 1] = { NULL };
	unsigned int i;

	if (!CAN_VANISH)
		return;
	set_up();
	for (i = 0; i < SLOTS; i++)
		p[i] = take(CLS);
	run_to_its_end(freer, p);
	CHECK_EQ(nr_caches(), 1);
}

static void *vanishes_at_once(void *unused)
{
	fill(CLS);
	vanish();
	return unused;
}

TEST(without_looks)
{
	if (!CAN_VANISH)
		return;
	set_up();
	for (unsigned int i = 0; i < 300; i++)
		run_to_its_end(vanishes_at_once, NULL);
	CHECK(nr_caches() <= 64);
}

static atomic_bool stop;

static void *looker(void *unused)
{
	while (!atomic_load(&stop))
		park_idle();
	return unused;
}

static bool locks_are_free(void)
{
	bool held = atomic_load(&tcache_lock.word);

	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		held |= atomic_load(&centrals[cls].lock.word);
	return !held;
}

/* As syscall.c does it; the other thread is not there any more. */
static void bare_fork(void)
{
	int status;
	long pid;

	mesher_fork_prepare();
	pid = os_syscall(__NR_clone, SIGCHLD, 0, 0, 0, 0, 0);
	if (!pid)
		_exit(!locks_are_free());
	mesher_fork_parent();
	CHECK(pid > 0);
	CHECK_EQ(waitpid((pid_t)pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

TEST(bare_forks)
{
	pthread_t t;

	set_up();
	CHECK(!pthread_create(&t, NULL, looker, NULL));
	for (unsigned int i = 0; i < 300; i++) {
		fill(CLS);
		bare_fork();
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
}

#define WORKERS		3
#define HELD		16
#define MILLISECONDS	3000

static pthread_t workers[WORKERS];

/* As a garbage collector stops a thread: anywhere, and for a while. */
static void stay(int sig)
{
	const struct timespec ts = { .tv_nsec = 300000 };

	(void)sig;
	nanosleep(&ts, NULL);
}

/* The first word of a slot has its owner's number, or 0 when it has none. */
static void *worker(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	_Atomic uintptr_t *held[HELD];
	unsigned int i;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		for (i = 0; i < HELD; i++)
			held[i] = take(CLS);
		for (i = 0; i < HELD; i++)
			CHECK_EQ(atomic_exchange(held[i], me), 0);
		for (i = 0; i < HELD; i++)
			CHECK_EQ(atomic_exchange(held[i], 0), me);
		for (i = 0; i < HELD; i++)
			give(CLS, held[i]);
	}
	return NULL;
}

static void *stopper(void *unused)
{
	uint64_t rng = 1;

	while (!atomic_load(&stop)) {
		pthread_kill(workers[unit_random(&rng) % WORKERS], SIGUSR1);
		usleep(200);
	}
	return unused;
}

static void look_for(unsigned int ms)
{
	struct timespec now, begun;
	size_t taken = 0;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	do {
		for (unsigned int i = 0; i < 100; i++)
			taken += park_idle();
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begun.tv_sec) * 1000 +
		 (now.tv_nsec - begun.tv_nsec) / 1000000 < ms);
	CHECK(taken > 0);
}

/* Parked all the time, in the middle of everything. */
static void park_workers(bool stopped)
{
	struct sigaction sa = { .sa_handler = stay };
	pthread_t t;
	unsigned int i;

	set_up();
	sigaction(SIGUSR1, &sa, NULL);
	for (i = 0; i < WORKERS; i++)
		CHECK(!pthread_create(&workers[i], NULL, worker, (void *)(uintptr_t)(i + 1)));
	if (stopped)
		CHECK(!pthread_create(&t, NULL, stopper, NULL));
	look_for(MILLISECONDS);
	atomic_store(&stop, true);
	if (stopped)
		pthread_join(t, NULL);
	for (i = 0; i < WORKERS; i++)
		pthread_join(workers[i], NULL);
	CHECK_EQ(centrals[CLS].nr_live, 0);
}

TEST(running_threads)
{
	park_workers(false);
}

TEST(stopped_threads)
{
	park_workers(true);
}

#define MANY	40000

/* Caches without threads, or, with @full, whose thread is another process's. */
static struct tcache *make_many(bool full)
{
	struct tcache *many = os_map(round_up(MANY * sizeof(*many), PAGE_SIZE));
	static void *stack[3];

	CHECK(many);
	for (unsigned int i = 0; i < MANY; i++) {
		struct tcache *tc = &many[i];

		for (unsigned int cls = 0; cls < NR_CLASSES; cls++)
			tc->bins[cls] = (struct tcache_bin){ .top = stack, .end = stack };
		if (full) {
			tc->bins[CLS] = (struct tcache_bin){ stack + 2, stack + 3 };
			tc->cap[CLS] = 3;
		}
		tc->next = i + 1 < MANY ? tc + 1 : NULL;
		tc->prev = i ? tc - 1 : &many[MANY - 1];
	}
	tcache_live = many;
	return many;
}

static uint64_t thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Idle ones, for each of which the locks are given up. With n * n / 2 steps it takes seconds. */
TEST(many_are_idle)
{
	struct tcache *many;
	uint64_t ns;

	set_up();
	many = make_many(true);
	park_idle();
	ns = thread_ns();
	park_idle();
	ns = thread_ns() - ns;
	printf("# a look at %u caches: %u us\n", MANY, (unsigned int)(ns / 1000));
	CHECK(ns < 1000000000);
	for (unsigned int i = 0; i < MANY; i++)
		CHECK_EQ(many[i].visit, many[0].visit);
	CHECK_EQ(tcache_live, many);
	CHECK_EQ(tcache_live->prev, many + MANY - 1);
	CHECK(!many[MANY - 1].next);
}

static uint32_t visit_of(const struct tcache *tc)
{
	return __atomic_load_n(&tc->visit, __ATOMIC_ACQUIRE);
}

static void *look_once(void *unused)
{
	park_idle();
	return unused;
}

/* Does a fork that is wanted when a look has begun get in before it has ended? */
static bool fork_gets_in(const struct tcache *many)
{
	uint32_t before = visit_of(many);
	pthread_t t;
	bool in;

	CHECK(!pthread_create(&t, NULL, look_once, NULL));
	while (visit_of(many) == before)
		;
	mesher_fork_prepare();
	in = visit_of(many + MANY - 1) == before;
	mesher_fork_parent();
	pthread_join(t, NULL);
	return in;
}

TEST(forks_during_a_look)
{
	struct tcache *many;
	unsigned int i;

	set_up();
	many = make_many(false);
	for (i = 0; i < 200 && !fork_gets_in(many); i++)
		;
	CHECK(i < 200);
}

UNIT_MAIN(
	UNIT(sleepers_give_back),
	UNIT(parked_threads_end),
	UNIT(no_room_for_the_key),
	UNIT(dead_owners),
	UNIT(numbers_used_again),
	UNIT(few_frees_make_no_cache),
	UNIT(without_looks),
	UNIT(bare_forks),
	UNIT(running_threads),
	UNIT(stopped_threads),
	UNIT(many_are_idle),
	UNIT(forks_during_a_look),
)
