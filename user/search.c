/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * search.c: first fit in decreasing order, on bitmaps.
 *
 * Candidates are sorted by how full they are and their bitmaps are laid out word by
 * word, so that one of them is compared with several others at once. What has been
 * taken gets a bitmap of ones and is disjoint from nothing any more.
 *
 * A destination goes through the positions after its own once: what collided with it
 * before it was filled up further still does.
 *
 * Threads: none of this file's business. Everything works on copies.
 */
#include "search.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

bool search_portable;

/* The first position from @from on that is disjoint from @x, or s->n. */
typedef unsigned int find_fn(const struct search *s, const uint64_t *x, unsigned int from);

static unsigned int find_portable(const struct search *s, const uint64_t *x, unsigned int from)
{
	unsigned int i, w;

	for (i = from; i < s->n; i++) {
		uint64_t common = s->live[0][i] & x[0];

		for (w = 1; w < s->words; w++)
			common |= s->live[w][i] & x[w];
		if (!common)
			break;
	}
	return i;
}

#if defined(__x86_64__)
/* The ones that follow the last position keep it from being a match. */
__attribute__((target("avx2")))
static unsigned int find_avx2(const struct search *s, const uint64_t *x, unsigned int from)
{
	const __m256i zero = _mm256_setzero_si256();
	unsigned int i, w, match;

	for (i = from; i < s->n; i += SEARCH_LANES) {
		__m256i common = zero;

		for (w = 0; w < s->words; w++) {
			__m256i live = _mm256_loadu_si256((const void *)&s->live[w][i]);

			common = _mm256_or_si256(common, _mm256_and_si256(live,
						 _mm256_set1_epi64x((long long)x[w])));
		}
		match = (unsigned int)_mm256_movemask_pd(
			_mm256_castsi256_pd(_mm256_cmpeq_epi64(common, zero)));
		if (match)
			return i + (unsigned int)__builtin_ctz(match);
	}
	return s->n;
}

/* Does the system save the upper halves of the registers? */
static bool saves_ymm(void)
{
	uint32_t low, high;

	__asm__ volatile("xgetbv" : "=a" (low), "=d" (high) : "c" (0));
	return (low & 6) == 6;
}

static bool has_avx2(void)
{
	unsigned int a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !saves_ymm())
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

/*
 * The compiler's own test brings a constructor along that asks the processor for all it
 * can do. Few programs ever search, and in a virtual machine each question is an exit.
 */
static find_fn *choose_find(void)
{
	static _Atomic int known;	/* 0: not yet, 1: no, 2: yes */

	if (!known)
		known = 1 + has_avx2();
	return !search_portable && known == 2 ? find_avx2 : find_portable;
}
#else
static find_fn *choose_find(void)
{
	return find_portable;
}
#endif

/* Turn counts by number of live slots into first positions, the fullest first. */
static void place(struct search *s)
{
	unsigned int live, at = 0;

	for (live = SPAN_MAX_SLOTS + 1; live-- > 0; ) {
		unsigned int count = s->first[live];

		s->first[live] = (uint16_t)at;
		at += count;
	}
	s->n = at;
}

static void put(struct search *s, const struct mesh_cand *c, unsigned int at)
{
	for (unsigned int w = 0; w < s->words; w++)
		s->live[w][at] = c->live[w];
	s->members[at] = c->nr_members;
}

static void mark_end(struct search *s)
{
	for (unsigned int w = 0; w < s->words; w++)
		for (unsigned int i = 0; i < SEARCH_LANES; i++)
			s->live[w][s->n + i] = ~0ULL;
}

void search_begin(struct search *s, const struct mesh_cand *c, unsigned int n,
		  const struct search_limits *lim)
{
	uint16_t at[SPAN_MAX_SLOTS + 1];
	unsigned int i;

	s->lim = *lim;
	s->words = (lim->slots + 63) / 64;
	s->next = 0;
	for (i = 0; i <= SPAN_MAX_SLOTS; i++)
		s->first[i] = 0;
	/* What is empty is about to be freed, and would be disjoint from what was taken. */
	for (i = 0; i < n; i++)
		if (c[i].nr_live)
			s->first[c[i].nr_live]++;
	place(s);
	for (i = 0; i <= SPAN_MAX_SLOTS; i++)
		at[i] = s->first[i];
	for (i = 0; i < n; i++) {
		if (!c[i].nr_live)
			continue;
		put(s, &c[i], at[c[i].nr_live]);
		s->order[at[c[i].nr_live]++] = (uint16_t)i;
	}
	mark_end(s);
}

static unsigned int later(unsigned int a, unsigned int b)
{
	return a > b ? a : b;
}

static unsigned int count_bits(const struct search *s, const uint64_t *x)
{
	unsigned int w, n = 0;

	for (w = 0; w < s->words; w++)
		n += (unsigned int)__builtin_popcountll(x[w]);
	return n;
}

/* Add position @i to the group of the bitmap @x. */
static void take(struct search *s, uint64_t *x, unsigned int i)
{
	for (unsigned int w = 0; w < s->words; w++) {
		x[w] |= s->live[w][i];
		s->live[w][i] = ~0ULL;
	}
	s->members[i] = 0;
}

/* Where the search for what still fits goes on: after @i. */
static unsigned int skip_to(const struct search *s, const uint64_t *x, unsigned int i)
{
	unsigned int room = s->lim.slots - count_bits(s, x);

	return room ? later(i + 1, s->first[room]) : s->n;
}

/* Fill up the group at position @at; how many pairs that makes. */
static unsigned int fill(struct search *s, find_fn *find, unsigned int at,
			 struct search_pair *out, uint64_t *probes)
{
	unsigned int members = s->members[at], found = 0, i, from;
	uint64_t x[SPAN_WORDS] = { 0 };

	for (unsigned int w = 0; w < s->words; w++)
		x[w] = s->live[w][at];
	for (from = skip_to(s, x, at); from < s->n && members < s->lim.members; ) {
		i = find(s, x, from);
		*probes += i - from;
		from = i + 1;
		if (i == s->n || members + s->members[i] > s->lim.members)
			continue;
		members += s->members[i];
		take(s, x, i);
		out[found++] = (struct search_pair){ .src = s->order[i], .dst = s->order[at] };
		from = skip_to(s, x, i);
	}
	return found;
}

unsigned int search_next(struct search *s, struct search_pair *out, unsigned int max,
			 unsigned int budget, uint64_t *probes)
{
	find_fn *find = choose_find();
	unsigned int found = 0;
	uint64_t used = 0;

	for (; !search_done(s) && found + s->lim.members <= max && used < budget; s->next++)
		if (s->members[s->next])
			found += fill(s, find, s->next, out + found, &used);
	*probes += used;
	return found;
}
