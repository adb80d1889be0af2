/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The search, against what can be said about it without knowing it. Every case runs with
 * the processor's way of comparing, if it has one, and with the portable one.
 */
#include <unistd.h>

#include "check.h"
#include "search.h"

#define MEMBERS	16

static struct mesh_cand cand[SEARCH_MAX];
static struct search_pair pairs[SEARCH_MAX];
static struct search state;

/* What the pairs of an answer make of the candidates. */
static struct mesh_cand packed[SEARCH_MAX];
static bool is_src[SEARCH_MAX], is_dst[SEARCH_MAX];

static void count_live(struct mesh_cand *c)
{
	unsigned int i;

	c->nr_live = 0;
	for (i = 0; i < SPAN_WORDS; i++)
		c->nr_live += __builtin_popcountll(c->live[i]);
}

static void set_slot(struct mesh_cand *c, unsigned int slot)
{
	c->live[slot / 64] |= 1ULL << slot % 64;
}

/* @live of @slots slots in use, at random places. */
static void fill_random(struct mesh_cand *c, unsigned int slots,
			unsigned int live)
{
	memset(c, 0, sizeof(*c));
	c->nr_members = 1;
	while (c->nr_live < live) {
		set_slot(c, test_random() % slots);
		count_live(c);
	}
}

static bool collide(const struct mesh_cand *a, const struct mesh_cand *b)
{
	unsigned int i;

	for (i = 0; i < 256; i++)
		if (a->live[i / 64] >> i % 64 & b->live[i / 64] >> i % 64 & 1)
			return true;
	return false;
}

/* Search to the end, in pieces of @budget comparisons; the pairs are in @pairs. */
static unsigned int search_by(unsigned int n, unsigned int slots, unsigned int budget)
{
	const struct search_limits lim = { .slots = slots, .members = MEMBERS };
	unsigned int found = 0, max;
	uint64_t probes = 0, before;

	search_begin(&state, cand, n, &lim);
	while (!search_done(&state)) {
		max = SEARCH_MAX - found;
		before = probes;
		found += search_next(&state, pairs + found, max < MEMBERS ? MEMBERS : max,
				     budget, &probes);
		CHECK(probes - before <= budget + SEARCH_MAX);
	}
	CHECK(!n || found < n);
	CHECK(probes <= (uint64_t)n * n / 2);
	return found;
}

static unsigned int search(unsigned int n, unsigned int slots)
{
	return search_by(n, slots, 100000);
}

static void merge(struct mesh_cand *dst, const struct mesh_cand *src)
{
	unsigned int i;

	CHECK(!collide(dst, src));
	for (i = 0; i < SPAN_WORDS; i++)
		dst->live[i] |= src->live[i];
	dst->nr_members += src->nr_members;
	count_live(dst);
}

/* What must be true of every answer, whatever the order in which it is carried out. */
static void check_answer(unsigned int n, unsigned int found)
{
	unsigned int i;

	memcpy(packed, cand, n * sizeof(*cand));
	memset(is_src, 0, sizeof(is_src));
	memset(is_dst, 0, sizeof(is_dst));
	for (i = 0; i < found; i++) {
		const struct search_pair *p = &pairs[i];

		CHECK(p->src < n && p->dst < n && p->src != p->dst);
		CHECK(cand[p->src].nr_live && !is_src[p->src]);
		CHECK(cand[p->src].nr_live <= cand[p->dst].nr_live);
		is_src[p->src] = is_dst[p->dst] = true;
		merge(&packed[p->dst], &cand[p->src]);
		CHECK(packed[p->dst].nr_members <= MEMBERS);
	}
	for (i = 0; i < n; i++)
		CHECK(!is_src[i] || !is_dst[i]);
}

/* Groups that brute force can still merge. */
static unsigned int left_over(unsigned int n)
{
	unsigned int i, j, left = 0;

	for (i = 0; i < n; i++)
		for (j = i + 1; j < n; j++)
			left += !is_src[i] && !is_src[j] && packed[i].nr_live &&
				packed[j].nr_live && !collide(&packed[i], &packed[j]) &&
				packed[i].nr_members + packed[j].nr_members <= MEMBERS;
	return left;
}

/* With groups of one that cannot become too large, nothing is left to merge. */
static void random_inputs(void)
{
	unsigned int round, i;

	for (round = 0; round < 200; round++) {
		unsigned int n = test_random() % 500;
		unsigned int slots = 2 + test_random() % 255;
		bool groups = round % 2;

		for (i = 0; i < n; i++) {
			fill_random(&cand[i], slots, test_random() % (slots / 2 + 1));
			if (groups)
				cand[i].nr_members = 1 + test_random() % MEMBERS;
			else if (cand[i].nr_live < slots / MEMBERS)
				fill_random(&cand[i], slots, slots / MEMBERS + 1);
		}
		check_answer(n, search_by(n, slots, 1 + test_random() % 5000));
		if (!groups)
			CHECK(!left_over(n));
	}
}

/* With 2 candidates: a pair is found exactly if there is one, and the empty stay out. */
static void two_spans_exhaustive(void)
{
	unsigned int a, b;

	for (a = 0; a < 256; a++)
		for (b = 0; b < 256; b++) {
			memset(cand, 0, 2 * sizeof(*cand));
			cand[0].live[0] = a;
			cand[1].live[0] = b;
			cand[0].nr_members = cand[1].nr_members = 1;
			count_live(&cand[0]);
			count_live(&cand[1]);
			CHECK(search(2, 8) == (a && b && !(a & b)));
		}
}

/* Each of 256 slots, alone, against all others and against itself. */
static void every_slot(void)
{
	unsigned int slot, i;

	for (slot = 0; slot < 256; slot++) {
		memset(cand, 0, 2 * sizeof(*cand));
		set_slot(&cand[0], slot);
		for (i = 0; i < 256; i++)
			if (i != slot)
				set_slot(&cand[1], i);
		for (i = 0; i < 2; i++) {
			cand[i].nr_members = 1;
			count_live(&cand[i]);
		}
		CHECK(search(2, 256) == 1);
		CHECK(pairs[0].src == 0 && pairs[0].dst == 1);
		cand[1] = cand[0];
		CHECK(search(2, 256) == 0);
	}
}

/* Every number of candidates about a multiple of those that are compared at once. */
static void the_last_is_found(void)
{
	unsigned int n, i;

	for (n = 2; n < 40; n++) {
		for (i = 0; i < n; i++) {
			memset(&cand[i], 0, sizeof(cand[i]));
			set_slot(&cand[i], 0);
			cand[i].nr_live = cand[i].nr_members = 1;
		}
		CHECK(search(n, 256) == 0);
		cand[n - 1].live[0] = 2;
		CHECK(search(n, 256) == 1);
		CHECK(pairs[0].src == n - 1 || pairs[0].dst == n - 1);
	}
}

static void groups_stay_small(void)
{
	memset(cand, 0, 2 * sizeof(*cand));
	set_slot(&cand[0], 0);
	set_slot(&cand[1], 1);
	cand[0].nr_live = cand[1].nr_live = 1;
	cand[0].nr_members = 10;
	cand[1].nr_members = 7;
	CHECK(search(2, 16) == 0);
	cand[1].nr_members = 6;
	CHECK(search(2, 16) == 1);
}

static void none_and_one(void)
{
	CHECK(search(0, 16) == 0);
	fill_random(&cand[0], 16, 1);
	CHECK(search(1, 16) == 0);
}

/* Spans that are left, in percent of what an ideal packing would leave. */
static unsigned int waste(unsigned int n, unsigned int slots, unsigned int one_in)
{
	unsigned int i, slot, live = 0, used = 0, left;

	for (i = 0; i < n; i++) {
		memset(&cand[i], 0, sizeof(cand[i]));
		cand[i].nr_members = 1;
		for (slot = 0; slot < slots; slot++)
			if (test_random() % one_in == 0)
				set_slot(&cand[i], slot);
		count_live(&cand[i]);
		live += cand[i].nr_live;
		used += !!cand[i].nr_live;
	}
	left = used - search(n, slots);
	return left * slots * 100 / live;
}

/* A tenth in use at random: what remains is close to what would be ideal. */
static void yield_is_high(void)
{
	CHECK(waste(2000, 8, 10) <= 120);
	CHECK(waste(2000, 16, 10) <= 125);
	CHECK(waste(2000, 32, 10) <= 125);
	CHECK(waste(2000, 64, 10) <= 150);
	CHECK(waste(SEARCH_MAX, 128, 10) <= 210);
}

static void run_both(void (*run)(void))
{
	search_portable = false;
	run();
	search_portable = true;
	run();
}

#define BOTH(name) static void both_##name(void) { run_both(name); }

BOTH(random_inputs)
BOTH(two_spans_exhaustive)
BOTH(every_slot)
BOTH(the_last_is_found)
BOTH(groups_stay_small)
BOTH(none_and_one)
BOTH(yield_is_high)

static const struct test_case cases[] = {
	{ "random_inputs", both_random_inputs },
	{ "two_spans_exhaustive", both_two_spans_exhaustive },
	{ "every_slot", both_every_slot },
	{ "the_last_is_found", both_the_last_is_found },
	{ "groups_stay_small", both_groups_stay_small },
	{ "none_and_one", both_none_and_one },
	{ "yield_is_high", both_yield_is_high },
};

TEST_MAIN(cases)
