/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Thread caches: what becomes of them when their threads end. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>

#include "central.h"
#include "tcache.h"
#include "unit.h"

#define CLS	CLASS_256
#define CROWD	200

static pthread_barrier_t barrier;

static void use_cache(void)
{
	void *p = tcache_refill(CLS);

	CHECK(p);
	if (!tcache_push(CLS, p))
		tcache_overflow(CLS, p);
}

/* One of a crowd: all have their caches at the same time. */
static void *member(void *arg)
{
	use_cache();
	*(struct tcache **)arg = tcache;
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void crowd(struct tcache **caches, unsigned int nr)
{
	pthread_t threads[CROWD];

	CHECK(!pthread_barrier_init(&barrier, NULL, nr));
	for (unsigned int i = 0; i < nr; i++)
		CHECK(!pthread_create(&threads[i], NULL, member, &caches[i]));
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
}

static unsigned int still_mapped(struct tcache *const *caches, unsigned int nr)
{
	unsigned int mapped = 0;

	for (unsigned int i = 0; i < nr; i++)
		mapped += !msync(caches[i], PAGE_SIZE, MS_ASYNC);
	return mapped;
}

/* A few are kept for the next threads, the rest is given back. */
TEST(crowds_leave_little)
{
	static struct tcache *caches[CROWD], *again[8];
	unsigned int found = 0;

	unit_heap();
	tcache_init();
	crowd(caches, CROWD);
	CHECK(still_mapped(caches, CROWD) >= 8);
	CHECK(still_mapped(caches, CROWD) < 40);
	CHECK_EQ(centrals[CLS].nr_live, 0);
	crowd(again, 8);
	for (unsigned int i = 0; i < 8; i++)
		for (unsigned int j = 0; j < CROWD; j++)
			found += again[i] == caches[j];
	CHECK_EQ(found, 8);
}

static pthread_key_t late;

/* A destructor that comes after that of the cache, as the key is newer. */
static void leave(void *arg)
{
	struct tcache **cache = arg;

	/* the cache is on its way to another thread; no memory either, to make it plain */
	CHECK(!mprotect(*cache, PAGE_SIZE, PROT_NONE));
	tcache_thread_leaves();
	CHECK(!mprotect(*cache, PAGE_SIZE, PROT_READ | PROT_WRITE));
}

static void *late_leaver(void *arg)
{
	struct tcache **cache = arg;

	CHECK(!pthread_setspecific(late, arg));
	use_cache();
	*cache = tcache;
	return NULL;
}

/* Who ends by a system call after its destructors does not touch what was its cache. */
TEST(late_leavers)
{
	struct tcache *cache;
	pthread_t t;

	unit_heap();
	tcache_init();
	CHECK(!pthread_key_create(&late, leave));
	CHECK(!pthread_create(&t, NULL, late_leaver, &cache));
	pthread_join(t, NULL);
}

UNIT_MAIN(UNIT(crowds_leave_little), UNIT(late_leavers))
