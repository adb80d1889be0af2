/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* The page heap: best fit, coalescing, alignment, clean and dirty, purge, sums. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "large.h"
#include "model.h"
#include "pageheap.h"
#include "region.h"
#include "unit.h"

#define RUNS	400

static void check_sums(struct pageheap *ph, size_t in_use)
{
	CHECK_EQ(pageheap_in_use(ph), in_use);
	CHECK_EQ(ph->nr_pages, in_use + ph->clean.pages + ph->dirty.pages +
		 ph->purging_pages + ph->lost_pages);
}

static unsigned int free_runs(const struct pageheap_kind *k)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < PAGEHEAP_BINS; i++)
		for (uint32_t id = k->bins[i].first; id; id = span_at(id)->next)
			n++;
	return n;
}

TEST(chunk_is_one_clean_run)
{
	bool zero = false;
	struct span *s;

	unit_heap();
	s = pageheap_alloc(&heap_anon, 3, 1, &zero);
	CHECK(s && zero && s->state == SPAN_LARGE);
	CHECK_EQ(s->nr_pages, 3);
	CHECK_EQ(heap_anon.nr_pages, 256);
	CHECK_EQ(free_runs(&heap_anon.clean), 1);
	CHECK(span_at(region.page_span[s->page]) == s);
	CHECK(span_at(region.page_span[s->page + 2]) == s);
	check_sums(&heap_anon, 3);
}

TEST(dirty_neighbours_coalesce)
{
	struct span *a, *b, *c;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 12, 1, NULL);
	b = pageheap_alloc(&heap_anon, 13, 1, NULL);
	c = pageheap_alloc(&heap_anon, 14, 1, NULL);
	CHECK(a && b && c);
	CHECK(pageheap_free(&heap_anon, a));
	CHECK(pageheap_free(&heap_anon, c));
	CHECK_EQ(free_runs(&heap_anon.dirty), 2);
	CHECK(pageheap_free(&heap_anon, b));
	CHECK_EQ(free_runs(&heap_anon.dirty), 1);
	CHECK_EQ(pageheap_dirty(&heap_anon), 39);
	check_sums(&heap_anon, 0);
}

TEST(recent_runs_stay_whole_for_their_length)
{
	struct span *run[4];
	uint32_t first;

	unit_heap();
	for (unsigned int i = 0; i < 4; i++)
		run[i] = pageheap_alloc(&heap_arena, 2, 1, NULL);
	first = run[0]->page;
	for (unsigned int i = 0; i < 4; i++)
		CHECK(pageheap_free(&heap_arena, run[i]));
	CHECK_EQ(pageheap_dirty(&heap_arena), 8);
	check_sums(&heap_arena, 0);
	CHECK(pageheap_alloc(&heap_arena, 2, 1, NULL) == run[3]);
	CHECK(pageheap_free(&heap_arena, run[3]));
	CHECK(!pageheap_free(&heap_arena, run[3]));
	/* and join for another */
	CHECK_EQ(pageheap_alloc(&heap_arena, 7, 1, NULL)->page, first);
	check_sums(&heap_arena, 7);
	CHECK_EQ(pageheap_purge(&heap_arena, SIZE_MAX), 1);
}

TEST(recent_runs_are_bounded)
{
	static struct span *run[2 * RECENT_PAGES];

	unit_heap();
	for (unsigned int i = 0; i < ARRAY_SIZE(run); i++)
		run[i] = pageheap_alloc(&heap_arena, 1, 1, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(run); i++)
		CHECK(pageheap_free(&heap_arena, run[i]));
	CHECK_EQ(heap_arena.recent_pages, RECENT_PAGES);
	CHECK_EQ(free_runs(&heap_arena.dirty), 1);
	CHECK_EQ(pageheap_purge(&heap_arena, SIZE_MAX), ARRAY_SIZE(run));
	CHECK_EQ(heap_arena.recent_pages, 0);
	check_sums(&heap_arena, 0);
}

TEST(free_twice_is_refused)
{
	struct span *a;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 2, 1, NULL);
	CHECK(pageheap_free(&heap_anon, a));
	CHECK(!pageheap_free(&heap_anon, a));
}

TEST(warm_pages_first_unless_zeros_are_wanted)
{
	struct span *a, *b;
	bool zero = true;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 5, 1, NULL);
	memset(span_addr(a), 1, 5 * PAGE_SIZE);
	pageheap_free(&heap_anon, a);
	a = pageheap_alloc(&heap_anon, 5, 1, &zero);
	CHECK(zero && span_addr(a)[0] == 0);
	b = pageheap_alloc(&heap_anon, 5, 1, NULL);
	CHECK(span_addr(b)[0] == 1);
	check_sums(&heap_anon, 10);
}

TEST(best_fit)
{
	struct span *run[20];
	uint32_t page;

	unit_heap();
	for (unsigned int i = 1; i < 20; i++)
		run[i] = pageheap_alloc(&heap_anon, i, 1, NULL);
	page = run[7]->page;
	for (unsigned int i = 1; i < 20; i += 2)
		pageheap_free(&heap_anon, run[i]);
	CHECK_EQ(pageheap_alloc(&heap_anon, 6, 1, NULL)->page, page);
}

TEST(purge_makes_clean_and_coalesces)
{
	struct span *a, *b;
	bool zero;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 10, 1, NULL);
	b = pageheap_alloc(&heap_anon, 1, 1, NULL);
	memset(span_addr(a), 1, 10 * PAGE_SIZE);
	pageheap_free(&heap_anon, a);
	pageheap_free(&heap_anon, b);
	CHECK_EQ(pageheap_purge(&heap_anon, SIZE_MAX), 11);
	CHECK_EQ(pageheap_dirty(&heap_anon), 0);
	CHECK_EQ(free_runs(&heap_anon.clean), 1);
	CHECK_EQ(heap_anon.purged_pages, 11);
	a = pageheap_alloc(&heap_anon, 256, 1, &zero);
	CHECK(zero);
	for (size_t i = 0; i < 256 * PAGE_SIZE; i++)
		CHECK(span_addr(a)[i] == 0);
	CHECK_EQ(heap_anon.nr_pages, 256);
}

TEST(purge_is_bounded)
{
	struct span *run[20];

	unit_heap();
	for (unsigned int i = 0; i < 20; i++)
		run[i] = pageheap_alloc(&heap_anon, 2, 1, NULL);
	for (unsigned int i = 0; i < 20; i += 2)
		pageheap_free(&heap_anon, run[i]);
	CHECK_EQ(pageheap_purge(&heap_anon, 5), 5);
	CHECK_EQ(pageheap_dirty(&heap_anon), 15);
}

/* A long run goes in pieces, and malloc waits for few of them. */
TEST(long_runs_are_purged_in_pieces)
{
	struct span *a, *b;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 8000, 1, NULL);
	b = pageheap_alloc(&heap_anon, 1, 1, NULL);
	pageheap_free(&heap_anon, a);
	a = pageheap_purge_begin(&heap_anon, 100);
	CHECK_EQ(a->nr_pages, 100);
	CHECK_EQ(pageheap_dirty(&heap_anon), 7900);
	check_sums(&heap_anon, 1);
	pageheap_purge_end(&heap_anon, a, true);
	CHECK(pageheap_alloc(&heap_arena, 1, 1, NULL) != NULL);
	CHECK(pageheap_dirty(&heap_anon) < 7900);
	CHECK(pageheap_dirty(&heap_anon) > 6000);
	check_sums(&heap_anon, 1);
	pageheap_free(&heap_anon, b);
	CHECK(pageheap_purge(&heap_anon, SIZE_MAX) > 6000);
	CHECK_EQ(free_runs(&heap_anon.clean), 1);
}

/* A page that is locked is one that the kernel does not take; others are not kept by that. */
TEST(locked_pages_keep_no_others)
{
	struct span *a, *b, *c;
	char *locked;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 6000, 1, NULL);
	b = pageheap_alloc(&heap_anon, 1, 1, NULL);
	c = pageheap_alloc(&heap_anon, 50, 1, NULL);
	CHECK(a && b && c);
	locked = span_addr(a) + 1000 * PAGE_SIZE;
	memset(span_addr(a), 1, 6000 * PAGE_SIZE);
	CHECK(!mlock(locked, PAGE_SIZE));
	pageheap_free(&heap_anon, a);
	pageheap_free(&heap_anon, c);
	CHECK(pageheap_purge(&heap_anon, SIZE_MAX) >= 50 + 6000 * 15 / 16);
	while (pageheap_purge(&heap_anon, SIZE_MAX))
		check_sums(&heap_anon, 1);
	CHECK_EQ(pageheap_dirty(&heap_anon), 1);
	CHECK(*locked == 1 && !locked[-1] && !locked[PAGE_SIZE]);
	CHECK(!munlock(locked, PAGE_SIZE));
	CHECK_EQ(pageheap_purge(&heap_anon, SIZE_MAX), 1);
	CHECK(!*locked);
	check_sums(&heap_anon, 1);
}

TEST(purging_runs_are_nobodys)
{
	struct span *a, *b, *c, *busy;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 12, 1, NULL);
	b = pageheap_alloc(&heap_anon, 13, 1, NULL);
	c = pageheap_alloc(&heap_anon, 14, 1, NULL);
	pageheap_free(&heap_anon, b);
	busy = pageheap_purge_begin(&heap_anon, 13);
	CHECK(busy && busy->state == SPAN_PURGING && busy->nr_pages == 13);
	CHECK(!pageheap_purge_begin(&heap_anon, 13));
	pageheap_free(&heap_anon, a);
	pageheap_free(&heap_anon, c);
	CHECK_EQ(free_runs(&heap_anon.dirty), 2);
	CHECK(pageheap_alloc(&heap_anon, 3, 1, NULL) != busy);
	check_sums(&heap_anon, 3);
	pageheap_purge_end(&heap_anon, busy, false);
	check_sums(&heap_anon, 3);
	CHECK_EQ(heap_anon.purged_pages, 0);
}

/* What free leaves to the daemon is nobody's until then, and is not without limit. */
TEST(purges_can_wait)
{
	struct span *s;
	uint64_t purged;
	uint32_t page;

	unit_heap();
	pageheap_purge_later(&heap_arena, true);
	s = pageheap_alloc(&heap_arena, 2, 1, NULL);
	page = s->page;
	pageheap_free_purged(&heap_arena, s);
	CHECK_EQ(heap_arena.lost_pages, 2);
	CHECK_EQ(heap_arena.purged_pages, 0);
	CHECK_EQ(s->state, SPAN_LOST);
	for (int i = 0; i < 300; i++) {
		s = pageheap_alloc(&heap_arena, 1, 1, NULL);
		CHECK(s->page != page && s->page != page + 1);
	}
	check_sums(&heap_arena, 300);
	CHECK(pageheap_purge_lost(&heap_arena, 1));
	CHECK(!pageheap_purge_lost(&heap_arena, 1));
	CHECK_EQ(heap_arena.lost_pages, 0);
	CHECK_EQ(heap_arena.purged_pages, 2);
	for (int i = 0; i < 300; i++)
		pageheap_free_purged(&heap_arena, pageheap_alloc(&heap_arena, 2, 1, NULL));
	CHECK(heap_arena.lost_pages > 200 && heap_arena.lost_pages < 300);
	pageheap_purge_later(&heap_arena, false);
	s = pageheap_alloc(&heap_arena, 1, 1, NULL);
	purged = heap_arena.purged_pages;
	pageheap_free_purged(&heap_arena, s);
	CHECK_EQ(heap_arena.purged_pages, purged + 1);
	check_sums(&heap_arena, 300);
}

TEST(unpurgeable_pages_are_lost)
{
	struct span *a;
	uint32_t page;

	unit_heap();
	a = pageheap_alloc(&heap_arena, 2, 1, NULL);
	page = a->page;
	model_fail_purges = 1;
	pageheap_free_purged(&heap_arena, a);
	CHECK_EQ(heap_arena.lost_pages, 2);
	for (int i = 0; i < 300; i++) {
		a = pageheap_alloc(&heap_arena, 1, 1, NULL);
		CHECK(a->page != page && a->page != page + 1);
	}
	check_sums(&heap_arena, 300);
	/* until it works */
	model_fail_purges = 1;
	CHECK_EQ(pageheap_purge(&heap_arena, SIZE_MAX), 0);
	CHECK_EQ(heap_arena.lost_pages, 2);
	pageheap_purge(&heap_arena, SIZE_MAX);
	CHECK_EQ(heap_arena.lost_pages, 0);
	check_sums(&heap_arena, 300);
}

TEST(child_purges_what_was_being_purged)
{
	struct span *a;

	unit_heap();
	a = pageheap_alloc(&heap_arena, 2, 1, NULL);
	span_addr(a)[0] = 1;
	pageheap_free(&heap_arena, a);
	a = pageheap_purge_begin(&heap_arena, 2);
	pageheap_fork_prepare(&heap_arena);
	lock_fork_enter();
	pageheap_fork_child(&heap_arena);
	lock_fork_leave();
	CHECK_EQ(heap_arena.purging_pages, 0);
	CHECK_EQ(heap_arena.clean.pages, heap_arena.nr_pages);
	check_sums(&heap_arena, 0);
}

/* Who would do it is not there. */
TEST(purges_cannot_wait_in_a_child)
{
	struct span *a;

	unit_heap();
	a = pageheap_alloc(&heap_arena, 2, 1, NULL);
	pageheap_purge_later(&heap_arena, true);
	pageheap_fork_prepare(&heap_arena);
	lock_fork_enter();
	pageheap_fork_child(&heap_arena);
	lock_fork_leave();
	pageheap_free_purged(&heap_arena, a);
	CHECK_EQ(heap_arena.lost_pages, 0);
	CHECK_EQ(heap_arena.purged_pages, 2);
}

static char *inside;

static void free_inside(void)
{
	large_free(inside);
}

/* A free run has begun there before the object has grown into it. */
TEST(free_inside_of_what_has_grown)
{
	char line[100];
	struct span *a;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 10, 1, NULL);
	CHECK(pageheap_resize(&heap_anon, a, 20));
	inside = span_addr(a) + 10 * PAGE_SIZE;
	snprintf(line, sizeof(line), "free of %p: no object starts there", (void *)inside);
	unit_must_abort(free_inside, line);
}

TEST(alignment)
{
	unit_heap();
	for (size_t align = 1; align <= 256; align *= 2)
		for (size_t n = 1; n <= 256; n = n * 3 + 1) {
			struct span *s = pageheap_alloc(&heap_anon, n, align, NULL);

			CHECK(s && s->nr_pages == n);
			CHECK_EQ(s->page % align, 0);
		}
}

TEST(resize)
{
	struct span *a, *b;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 10, 1, NULL);
	b = pageheap_alloc(&heap_anon, 10, 1, NULL);
	CHECK_EQ(b->page, a->page + 10);
	CHECK(!pageheap_resize(&heap_anon, a, 11));
	CHECK(pageheap_resize(&heap_anon, a, 4));
	CHECK_EQ(a->nr_pages, 4);
	check_sums(&heap_anon, 14);
	CHECK(pageheap_resize(&heap_anon, a, 7));
	CHECK(pageheap_resize(&heap_anon, a, 10));
	CHECK(!pageheap_resize(&heap_anon, a, 11));
	CHECK(pageheap_resize(&heap_anon, b, 200));
	check_sums(&heap_anon, 210);
	CHECK(pageheap_free(&heap_anon, a));
	CHECK(pageheap_free(&heap_anon, b));
	check_sums(&heap_anon, 0);
}

/* Runs of nearly the same length share a bin, and the shortest that fits is taken. */
/* A short run that was freed just now is in nobody's way. */
TEST(resize_into_a_recent_run)
{
	struct span *a, *b, *c;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 10, 1, NULL);
	b = pageheap_alloc(&heap_anon, 4, 1, NULL);
	c = pageheap_alloc(&heap_anon, 1, 1, NULL);
	CHECK(c && b->page == a->page + 10);
	CHECK(pageheap_free(&heap_anon, b));
	CHECK(pageheap_resize(&heap_anon, a, 14));
	check_sums(&heap_anon, 15);
}

/* All that there are, and that there is memory for, as a chain. */
static struct span *take_descriptors(void)
{
	struct rlimit none = { 0, RLIM_INFINITY };
	struct span *all = NULL, *s;

	CHECK(!setrlimit(RLIMIT_AS, &none));
	while ((s = span_new())) {
		s->next = all ? span_id(all) : 0;
		all = s;
	}
	return all;
}

static void give_descriptors(struct span *all)
{
	while (all) {
		struct span *next = all->next ? span_at(all->next) : NULL;

		span_delete(all);
		all = next;
	}
}

/* What would have to be cut in two stays whole, and where it is. */
TEST(no_descriptors)
{
	struct span *a, *b, *all;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 300, 1, NULL);
	b = pageheap_alloc(&heap_anon, 9, 1, NULL);
	CHECK(a && b && b->page == a->page + 300);
	all = take_descriptors();
	CHECK(!pageheap_resize(&heap_anon, b, 8));
	CHECK(!pageheap_resize(&heap_anon, b, 10));
	CHECK_EQ(b->nr_pages, 9);
	check_sums(&heap_anon, 309);
	CHECK(pageheap_free(&heap_anon, a));
	CHECK(!pageheap_alloc(&heap_anon, 100, 1, NULL));
	check_sums(&heap_anon, 9);
	a = pageheap_alloc(&heap_anon, 300, 1, NULL);
	CHECK(a);
	CHECK(pageheap_free(&heap_anon, a) && pageheap_free(&heap_anon, b));
	give_descriptors(all);
	all = take_descriptors();
	/* Not of the dirty run and a part of the clean one behind it, but once they are one. */
	a = pageheap_alloc(&heap_anon, 400, 1, NULL);
	CHECK(a);
	check_sums(&heap_anon, 400);
	give_descriptors(all);
	CHECK(pageheap_resize(&heap_anon, a, 300));
	check_sums(&heap_anon, 300);
}

static size_t address_space(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f && fscanf(f, "%lu", &pages) == 1);
	fclose(f);
	return pages * PAGE_SIZE;
}

/* @room is enough for tables of 40 MiB, for the first one. */
static void fail_to_grow(size_t room)
{
	struct rlimit limit = { 0, RLIM_INFINITY };
	struct span *s;
	size_t before;

	unit_heap();
	s = pageheap_alloc(&heap_anon, 10, 1, NULL);
	CHECK(s);
	before = address_space();
	limit.rlim_cur = before + room;
	CHECK(!setrlimit(RLIMIT_AS, &limit));
	CHECK(!pageheap_resize(&heap_anon, s, 8 << 20));
	CHECK(address_space() <= before + ((size_t)2 << 20));
	CHECK(pageheap_resize(&heap_anon, s, 200));
	check_sums(&heap_anon, 200);
}

TEST(failed_growth_leaves_no_tables) { fail_to_grow((size_t)64 << 20); }
TEST(failed_growth_leaves_no_first_table) { fail_to_grow((size_t)36 << 20); }

TEST(best_fit_of_long_runs)
{
	static const size_t len[] = { 330, 300, 312, 9000, 8500 };
	uint32_t page[ARRAY_SIZE(len)];
	struct span *run[ARRAY_SIZE(len)];

	unit_heap();
	for (size_t i = 0; i < ARRAY_SIZE(len); i++) {
		run[i] = pageheap_alloc(&heap_anon, len[i], 1, NULL);
		page[i] = run[i]->page;
		CHECK(pageheap_alloc(&heap_anon, 1, 1, NULL));
	}
	for (size_t i = 0; i < ARRAY_SIZE(len); i++)
		CHECK(pageheap_free(&heap_anon, run[i]));
	CHECK_EQ(pageheap_alloc(&heap_anon, 305, 1, NULL)->page, page[2]);
	CHECK_EQ(pageheap_alloc(&heap_anon, 300, 1, NULL)->page, page[1]);
	CHECK_EQ(pageheap_alloc(&heap_anon, 8300, 1, NULL)->page, page[4]);
	CHECK_EQ(pageheap_alloc(&heap_anon, 8600, 1, NULL)->page, page[3]);
}

/* The last run of the area grows with it, through dirty pages and beyond. */
TEST(resize_at_the_end)
{
	struct span *a, *b;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 100, 1, NULL);
	b = pageheap_alloc(&heap_anon, 100, 1, NULL);
	CHECK(pageheap_free(&heap_anon, b));
	CHECK(pageheap_resize(&heap_anon, a, 150));
	CHECK_EQ(pageheap_dirty(&heap_anon), 50);
	CHECK(pageheap_resize(&heap_anon, a, 5000));
	CHECK_EQ(pageheap_dirty(&heap_anon), 0);
	check_sums(&heap_anon, 5000);
	memset(span_addr(a), 1, 5000 * PAGE_SIZE);
	CHECK(pageheap_free(&heap_anon, a));
	check_sums(&heap_anon, 0);
}

/* Warm pages that are too few are used together with cold ones behind them. */
TEST(short_warm_run_is_extended)
{
	struct span *a, *b;
	uint32_t page;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 300, 1, NULL);
	page = a->page;
	CHECK(pageheap_free(&heap_anon, a));
	a = pageheap_alloc(&heap_anon, 400, 1, NULL);
	CHECK_EQ(a->page, page);
	CHECK_EQ(pageheap_dirty(&heap_anon), 0);
	check_sums(&heap_anon, 400);
	b = pageheap_alloc(&heap_anon, 1, 1, NULL);
	CHECK(pageheap_free(&heap_anon, a));
	a = pageheap_alloc(&heap_anon, 500, 1, NULL);
	CHECK(a->page > b->page);
	check_sums(&heap_anon, 501);
}

/* Dirty pages that are of no use do not add up with the clean ones that are taken. */
TEST(dirty_pages_are_bounded)
{
	struct span *run[3000];

	unit_heap();
	for (size_t i = 0; i < ARRAY_SIZE(run); i++)
		run[i] = pageheap_alloc(&heap_anon, 1, 1, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(run); i += 2)
		CHECK(pageheap_free(&heap_anon, run[i]));
	CHECK_EQ(pageheap_dirty(&heap_anon), 1500);
	CHECK(pageheap_alloc(&heap_anon, 1, 1, NULL));
	CHECK_EQ(pageheap_dirty(&heap_anon), 1499);
	CHECK(pageheap_alloc(&heap_anon, 2, 1, NULL));
	CHECK(pageheap_dirty(&heap_anon) < 750);
	check_sums(&heap_anon, 1503);
}

/* Random runs; nobody's pages are anybody else's, and in the end all is one run. */
TEST(random_runs)
{
	struct span *run[RUNS] = { 0 };
	uint64_t rng = 1;
	size_t in_use = 0;

	unit_heap();
	for (int i = 0; i < 40000; i++) {
		unsigned int r = unit_random(&rng) % RUNS;
		size_t n = 1 + unit_random(&rng) % (r % 8 ? 12 : 256);

		if (run[r]) {
			uint32_t *mark = (uint32_t *)span_addr(run[r]);

			CHECK(mark[0] == r);
			CHECK(mark[run[r]->nr_pages * 1024 - 1] == r);
			in_use -= run[r]->nr_pages;
			CHECK(pageheap_free(&heap_anon, run[r]));
		}
		run[r] = pageheap_alloc(&heap_anon, n, 1, NULL);
		((uint32_t *)span_addr(run[r]))[0] = r;
		((uint32_t *)span_addr(run[r]))[n * 1024 - 1] = r;
		in_use += n;
		if (i % 1000 == 0) {
			pageheap_purge(&heap_anon, 200);
			check_sums(&heap_anon, in_use);
		}
	}
	for (unsigned int r = 0; r < RUNS; r++)
		if (run[r])
			pageheap_free(&heap_anon, run[r]);
	pageheap_purge(&heap_anon, SIZE_MAX);
	CHECK_EQ(free_runs(&heap_anon.clean), 1);
	CHECK_EQ(heap_anon.clean.pages, heap_anon.nr_pages);
}

TEST(out_of_memory)
{
	struct span *s;

	unit_heap();
	heap_anon.max_pages = 300;
	s = pageheap_alloc(&heap_anon, 256, 1, NULL);
	CHECK(s);
	CHECK(!pageheap_alloc(&heap_anon, 256, 1, NULL));
	CHECK(pageheap_alloc(&heap_anon, 44, 1, NULL) == NULL ||
	      heap_anon.nr_pages <= 300);
	CHECK(pageheap_free(&heap_anon, s));
	CHECK(pageheap_alloc(&heap_anon, 256, 1, NULL));
}

/* Somebody maps a page where the area would grow next: it goes on behind it. */
TEST(foreign_mapping)
{
	struct span *a, *b;
	char *at;

	unit_heap();
	a = pageheap_alloc(&heap_anon, 256, 1, NULL);
	CHECK(a);
	at = span_addr(a) + 256 * PAGE_SIZE + 4 * PAGE_SIZE;
	CHECK(mmap(at, PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at);
	*at = 'f';
	b = pageheap_alloc(&heap_anon, 256, 1, NULL);
	CHECK(b && span_addr(b) > at);
	memset(span_addr(b), 1, 256 * PAGE_SIZE);
	CHECK_EQ(*at, 'f');
	CHECK_EQ(heap_anon.lost_pages, 256);
	check_sums(&heap_anon, 512);
	CHECK(pageheap_free(&heap_anon, a));
	CHECK(pageheap_free(&heap_anon, b));
	check_sums(&heap_anon, 0);
	munmap(at, PAGE_SIZE);
}

/* Growing, shrinking and growing anew, with and without something left in the last run. */
TEST(shrinks_at_the_end)
{
	struct span *a, *b;

	unit_heap();
	CHECK_EQ(pageheap_shrink(&heap_anon), 0);
	a = pageheap_alloc(&heap_anon, 100, 1, NULL);
	CHECK(a);
	CHECK_EQ(pageheap_shrink(&heap_anon), 0);
	for (unsigned int i = 0; i < 3; i++) {
		b = pageheap_alloc(&heap_anon, 5000, 1, NULL);
		CHECK(b);
		pageheap_shrink(&heap_anon);
		memset(span_addr(b), 1, 5000 * PAGE_SIZE);
		CHECK(pageheap_free(&heap_anon, b));
		pageheap_purge(&heap_anon, SIZE_MAX);
		CHECK(pageheap_shrink(&heap_anon) >= 4800);
		CHECK_EQ(heap_anon.nr_pages, 256);
		CHECK_EQ(region.anon_pages, 256);
		check_sums(&heap_anon, 100);
	}
	CHECK(pageheap_free(&heap_anon, a));
	pageheap_purge(&heap_anon, SIZE_MAX);
	CHECK_EQ(pageheap_shrink(&heap_anon), 0);
	CHECK_EQ(free_runs(&heap_anon.clean), 1);
	check_sums(&heap_anon, 0);
	CHECK_EQ(pageheap_shrink(&heap_arena), 0);
}

UNIT_MAIN(UNIT(chunk_is_one_clean_run), UNIT(dirty_neighbours_coalesce),
	  UNIT(free_twice_is_refused), UNIT(warm_pages_first_unless_zeros_are_wanted),
	  UNIT(best_fit), UNIT(purge_makes_clean_and_coalesces), UNIT(purge_is_bounded),
	  UNIT(long_runs_are_purged_in_pieces),
	  UNIT(locked_pages_keep_no_others),
	  UNIT(purging_runs_are_nobodys), UNIT(unpurgeable_pages_are_lost),
	  UNIT(purges_can_wait), UNIT(child_purges_what_was_being_purged),
	  UNIT(purges_cannot_wait_in_a_child), UNIT(free_inside_of_what_has_grown),
	  UNIT(alignment), UNIT(resize), UNIT(resize_into_a_recent_run), UNIT(no_descriptors),
	  UNIT(failed_growth_leaves_no_tables), UNIT(failed_growth_leaves_no_first_table),
	  UNIT(best_fit_of_long_runs), UNIT(resize_at_the_end),
	  UNIT(short_warm_run_is_extended), UNIT(dirty_pages_are_bounded),
	  UNIT(recent_runs_stay_whole_for_their_length), UNIT(recent_runs_are_bounded),
	  UNIT(random_runs), UNIT(out_of_memory),
	  UNIT(foreign_mapping), UNIT(shrinks_at_the_end))
