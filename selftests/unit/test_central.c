/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Central lists without meshing: states, fullness, randomness, misuse. */
#include "central.h"
#include "pageheap.h"
#include "region.h"
#include "stats.h"
#include "unit.h"

#define CLS	CLASS_256
#define SLOTS	16

static struct central *central_of(unsigned int cls)
{
	return &centrals[cls];
}

TEST(states)
{
	void *p[SLOTS];
	struct span *s;

	unit_heap();
	CHECK_EQ(central_refill(CLS, p, 1), 1);
	s = span_of(p[0]);
	CHECK_EQ(s->state, SPAN_PARTIAL);
	CHECK_EQ(s->nr_live, 1);
	CHECK_EQ(region.page_class[s->page], CLS);
	CHECK_EQ(central_refill(CLS, p + 1, SLOTS - 1), SLOTS - 1);
	CHECK_EQ(s->state, SPAN_FULL);
	CHECK_EQ(central_of(CLS)->nr_spans, 1);
	central_return(CLS, p, 1);
	CHECK_EQ(s->state, SPAN_PARTIAL);
	central_return(CLS, p + 1, SLOTS - 1);
	CHECK_EQ(central_of(CLS)->nr_spans, 0);
	CHECK_EQ(central_of(CLS)->nr_live, 0);
	CHECK_EQ(region.page_class[region_page(p[0])], CLASS_NONE);
	CHECK_EQ(pageheap_in_use(&heap_arena), 0);
}

/* Every slot of every class is handed out once, inside its span. */
TEST(every_slot_once)
{
	void *p[SPAN_MAX_SLOTS];

	unit_heap();
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		const struct sizeclass *sc = &sizeclasses[cls];
		bool seen[SPAN_MAX_SLOTS] = { false };

		CHECK_EQ(central_refill(cls, p, sc->slots), sc->slots);
		CHECK_EQ(central_of(cls)->nr_spans, 1);
		for (unsigned int i = 0; i < sc->slots; i++) {
			size_t off = (size_t)((char *)p[i] - span_addr(span_of(p[i])));

			CHECK_EQ(off % sc->size, 0);
			CHECK(!seen[off / sc->size]);
			seen[off / sc->size] = true;
			memset(p[i], 0xff, sc->size);
		}
		central_return(cls, p, sc->slots);
	}
	CHECK_EQ(pageheap_in_use(&heap_arena), 0);
	CHECK_EQ(pageheap_in_use(&heap_anon), 0);
}

TEST(small_and_medium_in_their_areas)
{
	void *p;

	unit_heap();
	CHECK_EQ(central_refill(CLASS_3584, &p, 1), 1);
	CHECK(region_page(p) < AREA_PAGES);
	CHECK_EQ(central_refill(CLASS_4096, &p, 1), 1);
	CHECK(region_page(p) >= ANON_FIRST_PAGE);
}

/* The fullest span is served first, so that sparse ones can empty. */
TEST(fullest_first)
{
	void *p[4 * SLOTS], *q;
	struct span *fuller, *sparse;

	unit_heap();
	CHECK_EQ(central_refill(CLS, p, 2 * SLOTS), 2 * SLOTS);
	fuller = span_of(p[0]);
	for (unsigned int i = 0, n = 0; i < 2 * SLOTS; i++)
		if (span_of(p[i]) != fuller && n++ < SLOTS - 2)
			central_return(CLS, &p[i], 1);
	central_return(CLS, p, 1);
	CHECK_EQ(central_refill(CLS, &q, 1), 1);
	CHECK(span_of(q) == fuller && q == p[0]);
	CHECK_EQ(central_refill(CLS, &q, 1), 1);
	sparse = span_of(q);
	CHECK(sparse != fuller);
	CHECK_EQ(sparse->nr_live, 3);
}

/* Which slots the first objects of fresh spans get must not be predictable. */
TEST(slots_are_random)
{
	unsigned int first[SLOTS] = { 0 };
	void *p[SLOTS];

	unit_heap();
	for (int i = 0; i < 1600; i++) {
		CHECK_EQ(central_refill(CLS, p, SLOTS), SLOTS);
		first[(size_t)((char *)p[0] - span_addr(span_of(p[0]))) / 256]++;
	}
	for (unsigned int i = 0; i < SLOTS; i++)
		CHECK(first[i] > 50 && first[i] < 200);
}

/* A span of which only some slots are taken: any slot may be among them. */
TEST(partial_spans_are_random)
{
	unsigned int used[SLOTS] = { 0 };
	void *p[SLOTS];

	unit_heap();
	for (int i = 0; i < 1600; i++) {
		CHECK_EQ(central_refill(CLS, p, 4), 4);
		for (int j = 0; j < 4; j++)
			used[(size_t)((char *)p[j] - span_addr(span_of(p[j]))) / 256]++;
		central_return(CLS, p, 4);
	}
	for (unsigned int i = 0; i < SLOTS; i++)
		CHECK(used[i] > 200 && used[i] < 600);
}

/* A cache takes from the end of a batch: addresses go up, but for one wrap. */
TEST(batches_are_in_order)
{
	void *p[SLOTS];

	unit_heap();
	for (int i = 0; i < 100; i++) {
		unsigned int wraps = 0;

		CHECK_EQ(central_refill(CLS, p, SLOTS), SLOTS);
		for (unsigned int j = SLOTS - 1; j > 0; j--)
			wraps += p[j - 1] < p[j];
		CHECK(wraps <= 1);
	}
}

static void *victim;

static void free_inside(void)
{
	char *p = (char *)victim + 16;

	central_return(CLS, (void **)&p, 1);
}

static void free_end_of_span(void)
{
	char *p = (char *)span_addr(span_of(victim)) + 17 * 240;

	central_return(CLASS_240, (void **)&p, 1);
}

static void free_after_retire(void)
{
	central_return(CLS, &victim, 1);
	central_return(CLS, &victim, 1);
}

TEST(misuse_aborts)
{
	char line[200];
	void *p[2];

	unit_heap();
	CHECK_EQ(central_refill(CLS, p, 2), 2);
	victim = p[0];
	snprintf(line, sizeof(line), "free of %p: not the start of an object of 256 bytes",
		 (void *)((char *)victim + 16));
	unit_must_abort(free_inside, line);
	central_return(CLS, p + 1, 1);
	snprintf(line, sizeof(line),
		 "double free of %p: its page has been given back since", victim);
	unit_must_abort(free_after_retire, line);
	CHECK_EQ(central_refill(CLASS_240, p, 1), 1);
	victim = p[0];
	snprintf(line, sizeof(line), "free of %p: not the start of an object of 240 bytes",
		 (void *)(span_addr(span_of(victim)) + 17 * 240));
	unit_must_abort(free_end_of_span, line);
}

static void free_once(void)
{
	central_return(CLS, &victim, 1);
}

TEST(double_free_aborts)
{
	char line[200];
	void *p[SLOTS];

	unit_heap();
	CHECK_EQ(central_refill(CLS, p, SLOTS), SLOTS);
	victim = p[3];
	central_return(CLS, &victim, 1);
	snprintf(line, sizeof(line), "double free of %p, an object of 256 bytes", victim);
	unit_must_abort(free_once, line);
}

TEST(no_memory)
{
	void *p[SLOTS];

	unit_heap();
	heap_arena.max_pages = 0;
	heap_anon.max_pages = 0;
	CHECK_EQ(central_refill(CLS, p, SLOTS), 0);
	heap_anon.max_pages = AREA_PAGES;
	heap_arena.max_pages = AREA_PAGES;
	CHECK_EQ(central_refill(CLS, p, SLOTS), SLOTS);
}

/* An arena that cannot grow is no reason to be out of memory. */
TEST(small_spans_elsewhere)
{
	void *p[SLOTS];

	unit_heap();
	heap_arena.max_pages = 0;
	CHECK_EQ(central_refill(CLS, p, SLOTS), SLOTS);
	CHECK(region_page(p[0]) >= ANON_FIRST_PAGE);
	central_return(CLS, p, SLOTS);
	CHECK_EQ(pageheap_in_use(&heap_anon), 0);
	heap_arena.max_pages = AREA_PAGES;
}

/* As if spans had died while the numbers were taken, class by class and heap by heap. */
TEST(statistics_in_between)
{
	void *p[SLOTS];
	struct stats s;

	unit_heap();
	CHECK_EQ(central_refill(CLS, p, SLOTS), SLOTS);
	centrals[CLS].nr_spans += 2;
	stats_collect(&s);
	centrals[CLS].nr_spans -= 2;
	CHECK_EQ(s.large, 0);
	CHECK_EQ(s.meshed, s.arena.in_use);
	central_return(CLS, p, SLOTS);
}

UNIT_MAIN(UNIT(states), UNIT(every_slot_once), UNIT(small_and_medium_in_their_areas),
	  UNIT(fullest_first), UNIT(slots_are_random), UNIT(partial_spans_are_random),
	  UNIT(batches_are_in_order),
	  UNIT(misuse_aborts), UNIT(double_free_aborts), UNIT(no_memory),
	  UNIT(small_spans_elsewhere), UNIT(statistics_in_between))
