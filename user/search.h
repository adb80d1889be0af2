/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * search.h: which spans can share their pages?
 *
 * Bin packing by first fit in decreasing order (Johnson 1973), with the difference that
 * what is packed must not only fit but also be disjoint: the fullest group is filled up
 * with the fullest ones that have no slot in common with it, then the next fullest, and
 * so on. Afterwards no two groups of the answer could be merged any more.
 *
 * Works on snapshots: no lock, no allocation. The work is done in pieces.
 */
#ifndef MESH_SEARCH_H
#define MESH_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "central.h"

/* Most candidates in one search. */
#define SEARCH_MAX	4096

/* Candidates that are compared at once; the arrays are that much longer. */
#define SEARCH_LANES	4

/**
 * struct search_pair - two candidates that can be merged
 * @src: index of the one to be copied: the one with fewer live slots
 * @dst: index of the one whose pages both will use
 */
struct search_pair {
	uint16_t src;
	uint16_t dst;
};

/**
 * struct search_limits - what a merged group may look like
 * @slots: slots in a span of this class
 * @members: most spans in one group
 */
struct search_limits {
	unsigned int slots;
	unsigned int members;
};

/**
 * struct search - a search that is going on
 * @lim: limits of a group
 * @n: positions: candidates, the fullest first, without the empty ones
 * @words: words of a snapshot that can have bits set
 * @next: first position that was not filled up yet
 * @order: position -> candidate
 * @members: position -> spans in the group; 0: it has been taken
 * @first: live slots -> first position that has no more than so many
 * @live: the bitmaps by word and position; all ones for what was taken
 */
struct search {
	struct search_limits lim;
	unsigned int n;
	unsigned int words;
	unsigned int next;
	uint16_t order[SEARCH_MAX];
	uint16_t members[SEARCH_MAX];
	uint16_t first[SPAN_MAX_SLOTS + 1];
	uint64_t live[SPAN_WORDS][SEARCH_MAX + SEARCH_LANES];
};

/* Set by tests: compare one candidate at a time, as on processors without AVX2. */
extern bool search_portable;

/**
 * search_begin() - prepare to search
 * @s: filled in
 * @c: the candidates
 * @n: how many, at most SEARCH_MAX
 * @lim: limits of a group
 */
void search_begin(struct search *s, const struct mesh_cand *c, unsigned int n,
		  const struct search_limits *lim);

/**
 * search_next() - search on
 * @s: the search
 * @out: receives pairs
 * @max: room in @out; at least the limit of members in a group
 * @budget: comparisons after which to return
 * @probes: the number of comparisons is added here
 *
 * A candidate is the source of at most one pair, and of none if it is the destination of
 * others. All sources of one destination are disjoint, so whichever of them are merged,
 * the others still can be. The work of one call exceeds @budget by SEARCH_MAX at most.
 *
 * Return: number of pairs; the search is over when search_done() says so.
 */
unsigned int search_next(struct search *s, struct search_pair *out, unsigned int max,
			 unsigned int budget, uint64_t *probes);

static inline bool search_done(const struct search *s)
{
	return s->next >= s->n;
}

#endif /* MESH_SEARCH_H */
