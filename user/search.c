/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * search.c: SplitMesher, the search for spans that can share their pages.
 *
 * The list of candidates is an array of indices in random order. Its first half
 * is the left side, the rest the right side. In round i the j-th of the left
 * meets the (j + i)-th of the right, so that no two rounds repeat a meeting; an
 * index that has found a partner is replaced by GONE.
 *
 * Threads: none of this file's business. Everything works on copies.
 */
#include "search.h"

#define GONE	UINT16_MAX

/* splitmix64: one multiply-xorshift chain over a counter. */
static uint64_t next_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* A number below @n; @n is far below 2^32, so the bias does not matter. */
static unsigned int random_below(uint64_t *seed, unsigned int n)
{
	return ((next_random(seed) >> 32) * n) >> 32;
}

static void shuffle(uint16_t *order, unsigned int n, uint64_t *seed)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		unsigned int j = random_below(seed, i + 1);

		order[i] = order[j];
		order[j] = i;
	}
}

bool search_meshable(const struct mesh_cand *a, const struct mesh_cand *b,
		     const struct search_limits *lim)
{
	/* The cheap questions first: most pairs fail one of these two. */
	if (a->nr_live + b->nr_live > lim->slots ||
	    a->nr_members + b->nr_members > lim->members)
		return false;
	return !((a->live[0] & b->live[0]) | (a->live[1] & b->live[1]) |
		 (a->live[2] & b->live[2]) | (a->live[3] & b->live[3]));
}

/*
 * Copy as few bytes as possible; between equals, let the smaller group move:
 * each of its members has to be write-protected.
 */
static struct search_pair make_pair(const struct mesh_cand *c, uint16_t a,
				    uint16_t b)
{
	struct search_pair p = { .src = a, .dst = b };

	if (c[a].nr_live > c[b].nr_live ||
	    (c[a].nr_live == c[b].nr_live &&
	     c[a].nr_members > c[b].nr_members)) {
		p.src = b;
		p.dst = a;
	}
	return p;
}

unsigned int search_pairs(const struct mesh_cand *c, unsigned int n,
			  const struct search_limits *lim, uint64_t *seed,
			  uint16_t *order, struct search_pair *out,
			  uint64_t *probes)
{
	unsigned int nr_left = n / 2, nr_right = n - nr_left;
	unsigned int rounds = nr_right < SEARCH_TRIES ? nr_right : SEARCH_TRIES;
	uint16_t *left = order, *right = order + nr_left;
	unsigned int i, j, found = 0;

	shuffle(order, n, seed);
	for (i = 0; i < rounds && found < nr_left; i++) {
		for (j = 0; j < nr_left; j++) {
			uint16_t *r = &right[(j + i) % nr_right];

			if (left[j] == GONE || *r == GONE)
				continue;
			++*probes;
			if (!search_meshable(&c[left[j]], &c[*r], lim))
				continue;
			out[found++] = make_pair(c, left[j], *r);
			left[j] = GONE;
			*r = GONE;
		}
	}
	return found;
}
