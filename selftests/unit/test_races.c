/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Threads that allocate and free, their own objects and each other's, beside one that meshes,
 * purges and counts: no slot has two owners. With MESH_SANITIZE=thread the sanitizer looks on.
 *
 * The backend merges in name only. Then two spans of a group have pages of their own, and what
 * the sanitizer knows of an address is true.
 */
#include <pthread.h>
#include <sched.h>

#include "alloc.h"
#include "backend.h"
#include "central.h"
#include "mesher.h"
#include "pageheap.h"
#include "tcache.h"
#include "unit.h"

#define THREADS	4
#define OBJECTS	4000
#define OPS	400000

static _Atomic(uint64_t *) objects[OBJECTS];
static atomic_uint running;
static atomic_ulong merged;

static uint64_t merge_in_name(struct merge_req *reqs, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		reqs[i].result = 0;
	return n * PAGE_SIZE;
}

static const struct backend_ops in_name = {
	.name = "in name only",
	.slice = 8,
	.merge = merge_in_name,
};

static void give(uint64_t *p)
{
	if (!p)
		return;
	CHECK(*p == (uintptr_t)p);
	*p = 0;
	if (!tcache_push(class_of(p), p))
		tcache_overflow(class_of(p), p);
}

static uint64_t *take(size_t size)
{
	unsigned int cls = sizeclass_of(size);
	uint64_t *p = tcache_pop(cls);

	if (!p)
		p = tcache_refill(cls);
	CHECK(p && *p != (uintptr_t)p);
	*p = (uintptr_t)p;
	return p;
}

/* On a machine that is busy the threads may be through before there was a pass. */
static bool goes_on(unsigned int i)
{
	return i < OPS || (!atomic_load(&merged) && i < 100 * OPS);
}

/* By turns few and many objects of a few classes, so that spans become sparse and are filled. */
static void *churn(void *arg)
{
	uint64_t state = (uintptr_t)arg;

	for (unsigned int i = 0; goes_on(i); i++) {
		unsigned int at = unit_random(&state) % OBJECTS;
		bool thin = i / (OPS / 8) % 2 && unit_random(&state) % 8;
		size_t size = (size_t)16 << unit_random(&state) % 4;

		if (!(unit_random(&state) % 64))
			size = 1 + unit_random(&state) % SLOT_MAX;
		give(atomic_exchange(&objects[at], thin ? NULL : take(size)));
	}
	tcache_flush();
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void count_everything(void)
{
	size_t counts[CENTRAL_LISTS], cached[NR_CLASSES] = { 0 }, full, meshing;

	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		central_histogram(cls, counts, &full, &meshing);
	tcache_count(cached);
}

static void mesh_until_they_end(void)
{
	CHECK_EQ(mesher_open(), 0);
	while (atomic_load(&running)) {
		atomic_fetch_add(&merged, mesher_pass(&in_name, true).merged);
		pageheap_purge(&heap_arena, 64);
		pageheap_purge(&heap_anon, 64);
		for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
			central_return_idle(cls, false);
		count_everything();
		sched_yield();
	}
}

TEST(no_slot_has_two_owners)
{
	pthread_t threads[THREADS];

	unit_heap();
	tcache_init();
	running = THREADS;
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
	mesh_until_they_end();
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	CHECK(atomic_load(&merged));
	for (unsigned int i = 0; i < OBJECTS; i++)
		give(objects[i]);
	tcache_flush();
	central_return_waiting();
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		CHECK_EQ(centrals[cls].nr_live, 0);
}

UNIT_MAIN(UNIT(no_slot_has_two_owners))
