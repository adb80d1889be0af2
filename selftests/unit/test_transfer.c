/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Transfer caches: when they are open, what comes out of them, and what leaves unasked. */
#include "central.h"
#include "pageheap.h"
#include "stats.h"
#include "tcache.h"
#include "unit.h"

#define CLS	CLASS_256
#define SLOTS	16
#define BATCH	32
#define MAX	(TRANSFER_BYTES / 256)

static struct transfer *transfer_of_class(void)
{
	return &centrals[CLS].transfer;
}

static void refill(void **p, unsigned int nr)
{
	unsigned int n;

	for (n = 0; n < nr;) {
		unsigned int some = central_refill(CLS, p + n, nr - n < BATCH ? nr - n : BATCH);

		CHECK(some);
		n += some;
	}
}

static void give_back(void *const *p, unsigned int nr)
{
	for (unsigned int n = 0; n < nr; n += BATCH)
		central_return_soon(CLS, p + n, nr - n < BATCH ? nr - n : BATCH);
}

/* By turns: what it is for. */
static void open_it(void)
{
	void *p[BATCH];

	for (unsigned int i = 0; i < 2 * MAX / BATCH && !transfer_of_class()->open; i++) {
		refill(p, BATCH);
		give_back(p, BATCH);
	}
	CHECK(transfer_of_class()->open);
	central_return_waiting();
	CHECK_EQ(transfer_of_class()->nr, 0);
	CHECK_EQ(centrals[CLS].nr_live, 0);
}

/* Memory that is only given back, once, goes to its spans. */
TEST(closed_at_first)
{
	static void *p[2 * MAX];

	unit_heap();
	refill(p, 2 * MAX);
	give_back(p, 2 * MAX);
	CHECK(!transfer_of_class()->open);
	CHECK(!transfer_of_class()->slots);
	CHECK_EQ(centrals[CLS].nr_live, 0);
	CHECK_EQ(pageheap_in_use(&heap_arena), 0);
}

/* The last batch comes first, as it is, and its spans are as full as they were meanwhile. */
TEST(last_in_first_out)
{
	void *p[2 * BATCH], *q[2 * BATCH];

	unit_heap();
	open_it();
	refill(p, 2 * BATCH);
	give_back(p, 2 * BATCH);
	CHECK_EQ(transfer_of_class()->nr, 2 * BATCH);
	CHECK_EQ(centrals[CLS].nr_live, 2 * BATCH);
	refill(q, 2 * BATCH);
	CHECK(!memcmp(q, p + BATCH, BATCH * sizeof(*p)));
	CHECK(!memcmp(q + BATCH, p, BATCH * sizeof(*p)));
	CHECK_EQ(transfer_of_class()->nr, 0);
	central_return(CLS, q, 2 * BATCH);
	CHECK_EQ(centrals[CLS].nr_live, 0);
}

/* What there is, if that is less than what is wanted. */
TEST(a_few)
{
	void *p[BATCH], *q[BATCH];

	unit_heap();
	open_it();
	refill(p, BATCH);
	give_back(p, 3);
	CHECK_EQ(central_refill(CLS, q, BATCH), 3);
	CHECK(!memcmp(q, p, 3 * sizeof(*p)));
	CHECK_EQ(central_refill(CLS, q, BATCH), BATCH);
}

/* It is bounded, and closes where far more comes than it can hold. */
TEST(closes)
{
	static void *p[8 * MAX];

	unit_heap();
	open_it();
	refill(p, 8 * MAX);
	give_back(p, MAX);
	CHECK_EQ(transfer_of_class()->nr, MAX);
	CHECK_EQ(centrals[CLS].nr_live, 8 * MAX);
	give_back(p + MAX, BATCH);
	CHECK_EQ(transfer_of_class()->nr, MAX);
	CHECK_EQ(centrals[CLS].nr_live, 8 * MAX - BATCH);
	CHECK(transfer_of_class()->open);
	give_back(p + MAX + BATCH, 7 * MAX - BATCH);
	CHECK(!transfer_of_class()->open);
	/* what it has is wanted all the same, and not put there again */
	refill(p, MAX);
	CHECK_EQ(transfer_of_class()->nr, 0);
	give_back(p, MAX);
	CHECK_EQ(transfer_of_class()->nr, 0);
	CHECK_EQ(centrals[CLS].nr_live, 0);
	for (unsigned int i = 0; i < 8; i++) {
		refill(p, MAX);
		give_back(p, MAX);
	}
	CHECK(transfer_of_class()->open);
}

/* Slots of many spans would keep them all: sparse ones are given back instead. */
TEST(sparse_spans_are_not_kept)
{
	static void *p[4 * MAX], *first[4 * MAX / SLOTS], *rest[4 * MAX];
	unsigned int nr_first = 0, nr_rest = 0;

	unit_heap();
	open_it();
	refill(p, 4 * MAX);
	/* one of each span, as far as there is room, then all others but one of each */
	for (unsigned int i = 0; i < 4 * MAX; i++)
		if ((uintptr_t)p[i] % PAGE_SIZE == 0)
			first[nr_first++] = p[i];
		else if ((uintptr_t)p[i] % PAGE_SIZE != 256)
			rest[nr_rest++] = p[i];
	CHECK_EQ(nr_first, 4 * MAX / SLOTS);
	give_back(first, nr_first);
	CHECK_EQ(transfer_of_class()->nr, nr_first);
	give_back(rest, nr_rest);
	CHECK_EQ(transfer_of_class()->nr, 0);
	CHECK_EQ(centrals[CLS].nr_live, 4 * MAX / SLOTS);
	for (unsigned int i = 0; i < 8 * MAX / BATCH; i++) {
		refill(p, BATCH);
		give_back(p, BATCH);
		CHECK_EQ(transfer_of_class()->nr, 0);
	}
	CHECK(transfer_of_class()->open);
}

/* Nobody wanted the least that was there from one look to the next. */
TEST(idle_slots_leave)
{
	static void *p[MAX];
	unsigned int n, sum = 0;

	unit_heap();
	open_it();
	refill(p, MAX);
	give_back(p, MAX);
	CHECK_EQ(central_return_idle(CLS, false), 0);
	refill(p, MAX / 2);
	give_back(p, MAX / 4);
	while ((n = central_return_idle(CLS, false)))
		sum += n;
	CHECK_EQ(sum, MAX / 2);
	CHECK_EQ(transfer_of_class()->nr, MAX / 4);
	CHECK_EQ(centrals[CLS].nr_live, MAX / 2);
	while ((n = central_return_idle(CLS, false)))
		sum += n;
	CHECK_EQ(sum, MAX * 3 / 4);
	CHECK_EQ(transfer_of_class()->nr, 0);
	CHECK_EQ(centrals[CLS].nr_live, MAX / 4);
}

/* To the program they are free. */
TEST(counted_as_cached)
{
	struct stats *s = malloc(sizeof(*s));
	void *p[BATCH];

	unit_heap();
	open_it();
	refill(p, BATCH);
	give_back(p, BATCH / 2);
	stats_collect(s);
	CHECK_EQ(s->classes[CLS].live, BATCH);
	CHECK_EQ(s->classes[CLS].cached, BATCH / 2);
	CHECK_EQ(s->slots_used, BATCH / 2 * 256);
	free(s);
}

/* Pages of free slots serve other classes before anybody is told that there is no memory. */
TEST(last_resort)
{
	void *p[TRANSFER_BYTES / 8192], *q;
	unsigned int medium, nr = ARRAY_SIZE(p), after = 0;
	struct transfer *t;

	unit_heap();
	medium = sizeclass_of(8192);
	t = &centrals[medium].transfer;
	for (unsigned int i = 0; i < 8; i++) {
		CHECK_EQ(central_refill(medium, p, nr), nr);
		central_return_soon(medium, p, nr);
	}
	CHECK_EQ(t->nr, nr);
	heap_anon.max_pages = 0;
	while (t->nr)
		CHECK_EQ(central_refill(sizeclass_of(16384), &q, 1), 1);
	while (central_refill(sizeclass_of(16384), &q, 1))
		after++;
	CHECK(after > 8);
}

static void free_twice(void)
{
	void *p[BATCH];

	refill(p, BATCH);
	give_back(p, 1);
	give_back(p, 1);
	central_return_waiting();
}

/* Found late, but found unless it was handed out again. */
TEST(double_free)
{
	void *p[BATCH];
	char line[80];

	unit_heap();
	open_it();
	/* where the child will find them */
	refill(p, BATCH);
	give_back(p, BATCH);
	snprintf(line, sizeof(line), "double free of %p, an object of 256 bytes", p[0]);
	unit_must_abort(free_twice, line);
}

UNIT_MAIN(UNIT(closed_at_first), UNIT(last_in_first_out), UNIT(a_few), UNIT(closes),
	  UNIT(sparse_spans_are_not_kept), UNIT(idle_slots_leave), UNIT(counted_as_cached),
	  UNIT(last_resort), UNIT(double_free))
