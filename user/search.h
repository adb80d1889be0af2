/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * search.h: which spans can share their pages?
 *
 * Pure functions over snapshots: no lock, no allocation, no state but a seed.
 */
#ifndef MESH_SEARCH_H
#define MESH_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "central.h"

/* Partners tried for each span: the t of SplitMesher. */
#define SEARCH_TRIES	64

/* Most candidates in one search; one value of uint16_t means "gone". */
#define SEARCH_MAX	1024

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
 * search_meshable() - can @a and @b be merged within @lim?
 */
bool search_meshable(const struct mesh_cand *a, const struct mesh_cand *b,
		     const struct search_limits *lim);

/**
 * search_pairs() - find disjoint pairs of candidates that can be merged
 * @c: the candidates
 * @n: how many, at most SEARCH_MAX
 * @lim: limits of a group
 * @seed: state of the random generator, any value; updated
 * @order: scratch space for @n indices
 * @out: room for @n / 2 pairs
 * @probes: the number of pairs looked at is added here
 *
 * SplitMesher: shuffle the candidates, cut the list in two, and try each of the
 * first half with SEARCH_TRIES of the second. Every candidate is in at most one
 * pair of the answer.
 *
 * Return: number of pairs.
 */
unsigned int search_pairs(const struct mesh_cand *c, unsigned int n,
			  const struct search_limits *lim, uint64_t *seed,
			  uint16_t *order, struct search_pair *out,
			  uint64_t *probes);

#endif /* MESH_SEARCH_H */
