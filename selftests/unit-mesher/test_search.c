/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* The pair search, against what can be said about it without knowing it. */
#include <unistd.h>

#include "check.h"
#include "search.h"

#define MEMBERS	16

static struct mesh_cand cand[SEARCH_MAX];
static uint16_t order[SEARCH_MAX];
static struct search_pair pairs[SEARCH_MAX / 2];

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

static unsigned int search(unsigned int n, unsigned int slots)
{
	const struct search_limits lim = { .slots = slots, .members = MEMBERS };
	static uint64_t seed = 42;
	uint64_t probes = 0;
	unsigned int found = search_pairs(cand, n, &lim, &seed, order, pairs,
					  &probes);

	CHECK(found <= n / 2);
	CHECK(found <= probes);
	CHECK(probes <= (uint64_t)SEARCH_TRIES * (n / 2));
	return found;
}

/* What must be true of every answer. */
static void check_answer(unsigned int n, unsigned int found, bool *used)
{
	unsigned int i;

	memset(used, 0, n * sizeof(*used));
	for (i = 0; i < found; i++) {
		const struct search_pair *p = &pairs[i];

		CHECK(p->src < n && p->dst < n && p->src != p->dst);
		CHECK(!used[p->src] && !used[p->dst]);
		CHECK(!collide(&cand[p->src], &cand[p->dst]));
		CHECK(cand[p->src].nr_live <= cand[p->dst].nr_live);
		CHECK(cand[p->src].nr_members + cand[p->dst].nr_members <=
		      MEMBERS);
		used[p->src] = used[p->dst] = true;
	}
}

static void random_inputs(void)
{
	static bool used[SEARCH_MAX];
	unsigned int round, i;

	for (round = 0; round < 400; round++) {
		unsigned int n = test_random() % (SEARCH_MAX + 1);
		unsigned int slots = 2 + test_random() % 255;

		for (i = 0; i < n; i++) {
			fill_random(&cand[i], slots,
				    test_random() % (slots / 2 + 1));
			cand[i].nr_members = 1 + test_random() % MEMBERS;
		}
		check_answer(n, search(n, slots), used);
	}
}

/*
 * Few candidates: every left one meets every right one, so whoever is left over
 * collides with all that are left over on the other side. With 2 candidates
 * that means: a pair is found exactly if there is one.
 */
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
			CHECK(search(2, 8) == !(a & b));
		}
}

/* Pairs that brute force can still find among what a search has left over. */
static unsigned int left_over(unsigned int n, const bool *used)
{
	unsigned int i, j, pairs_left = 0;

	for (i = 0; i < n; i++)
		for (j = i + 1; j < n; j++)
			pairs_left += !used[i] && !used[j] &&
				      !collide(&cand[i], &cand[j]);
	return pairs_left;
}

/* Searching again and again leaves nothing that brute force can find. */
static void small_lists_are_exhausted(void)
{
	bool used[40];
	unsigned int round, i, n, again;

	for (round = 0; round < 300; round++) {
		n = 2 + test_random() % 38;
		for (i = 0; i < n; i++)
			fill_random(&cand[i], 16, 1 + test_random() % 8);
		for (again = 0; again < 64; again++) {
			unsigned int left = 0;

			check_answer(n, search(n, 16), used);
			if (!left_over(n, used))
				break;
			for (i = 0; i < n; i++)
				if (!used[i])
					cand[left++] = cand[i];
			n = left;
		}
		CHECK(again < 64);
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
	/* equally full: the smaller group moves */
	CHECK(pairs[0].src == 1);
}

static void none_and_one(void)
{
	CHECK(search(0, 16) == 0);
	fill_random(&cand[0], 16, 1);
	CHECK(search(1, 16) == 0);
}

/* 3 of 16 in use, a chance of 1 in 2 for a pair: nearly all find a partner. */
static void yield_is_high(void)
{
	unsigned int i;

	for (i = 0; i < SEARCH_MAX; i++)
		fill_random(&cand[i], 16, 3);
	CHECK(search(SEARCH_MAX, 16) >= SEARCH_MAX / 2 * 95 / 100);
}

static const struct test_case cases[] = {
	{ "random_inputs", random_inputs },
	{ "two_spans_exhaustive", two_spans_exhaustive },
	{ "small_lists_are_exhausted", small_lists_are_exhausted },
	{ "every_slot", every_slot },
	{ "groups_stay_small", groups_stay_small },
	{ "none_and_one", none_and_one },
	{ "yield_is_high", yield_is_high },
};

TEST_MAIN(cases)
