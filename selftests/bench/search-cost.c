// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * search-cost [--percent N] [--portable] PAGES...: what the search for spans to merge costs,
 * by how large the heap is.
 *
 * Feeds the library's own search (user/search.c) with made-up heaps of so many pages, in
 * equal parts in all small size classes, each slot in use with a chance of N % (10). There
 * is no memory behind them: what is measured is the search alone, and all that it finds is
 * merged. As in the library a step takes up to SEARCH_MAX groups of a class, the emptiest
 * first, and searches them in calls of bounded work; passes over all classes go on until
 * one finds next to nothing. With --portable AVX2 is not used.
 *
 * Prints a line of CSV for each number of pages:
 *
 *	pages		pages of the made-up heap
 *	left		pages that are left in the end
 *	ideal		pages that its live slots would fill
 *	passes		passes
 *	comparisons	pairs of groups compared
 *	cpu_ms		processor time of the search
 *	ns_per_page	the same for a page of the heap
 *	calls		calls of the search, which is when the library can stop
 *	most		comparisons of the longest call
 *	longest_us	processor time of the longest call
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "backend.h"
#include "search.h"

/* As in user/mesher.c and user/pace.c. */
#define FOUND		512
#define BUDGET		200000
#define TOO_FEW		64

/* Groups of one class: a queue for each eighth of the slots, as in user/central.c. */
struct queue {
	uint32_t *index;
	size_t head;
	size_t nr;
};

struct class {
	const struct sizeclass *sc;
	struct mesh_cand *group;
	size_t spans;
	size_t nr;
	struct queue queue[CENTRAL_LISTS];
};

struct cost {
	unsigned int passes;
	unsigned long calls;
	uint64_t probes;
	uint64_t most;
	double seconds;
	double longest;
};

static unsigned long percent = 10;
static struct class classes[NR_CLASSES];
static struct search search;
static struct cost cost;

static double cpu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* What is full is on no list. */
static void enqueue(struct class *c, uint32_t i)
{
	struct queue *q;

	if (c->group[i].nr_live == c->sc->slots)
		return;
	q = &c->queue[c->group[i].nr_live * CENTRAL_LISTS / c->sc->slots];
	q->index[(q->head + q->nr++) % c->spans] = i;
}

static unsigned int dequeue(struct class *c, uint32_t *out, unsigned int max)
{
	unsigned int list, n = 0;

	for (list = 0; list < CENTRAL_MESH_LISTS; list++) {
		struct queue *q = &c->queue[list];

		for (; q->nr && n < max; q->nr--) {
			out[n++] = q->index[q->head];
			q->head = (q->head + 1) % c->spans;
		}
	}
	return n;
}

/* A span without a slot in use would have been given back. */
static void make_span(struct class *c, uint32_t i, uint64_t *rng)
{
	struct mesh_cand *g = &c->group[i];
	unsigned int slot;

	g->nr_members = 1;
	do {
		for (slot = 0; slot < c->sc->slots; slot++) {
			*rng = mix(*rng);
			if (*rng % 100 >= percent)
				continue;
			g->live[slot / 64] |= 1ULL << slot % 64;
			g->nr_live++;
		}
	} while (!g->nr_live);
}

/* Returns how many slots are in use. */
static size_t make_class(struct class *c, const struct sizeclass *sc, size_t spans, uint64_t seed)
{
	uint64_t rng = seed;
	size_t live = 0;
	uint32_t i;

	c->sc = sc;
	c->spans = c->nr = spans;
	c->group = map_or_die(spans * sizeof(*c->group));
	for (i = 0; i < CENTRAL_LISTS; i++) {
		c->queue[i] = (struct queue){ 0 };
		c->queue[i].index = map_or_die(spans * sizeof(uint32_t));
	}
	for (i = 0; i < spans; i++) {
		make_span(c, i, &rng);
		live += c->group[i].nr_live;
		enqueue(c, i);
	}
	return live;
}

static void join(struct class *c, const uint32_t *index, struct search_pair pair)
{
	struct mesh_cand *src = &c->group[index[pair.src]], *dst = &c->group[index[pair.dst]];
	unsigned int w;

	for (w = 0; w < SPAN_WORDS; w++) {
		if (src->live[w] & dst->live[w])
			die("the search has found a pair that collides");
		dst->live[w] |= src->live[w];
	}
	dst->nr_live += src->nr_live;
	dst->nr_members += src->nr_members;
	src->nr_members = 0;
	c->nr--;
}

static void account(double begun, uint64_t probes)
{
	double seconds = cpu_now() - begun;

	cost.calls++;
	cost.seconds += seconds;
	cost.probes += probes;
	if (seconds > cost.longest)
		cost.longest = seconds;
	if (probes > cost.most)
		cost.most = probes;
}

/* One step, with what search_begin() does counted as a call. Returns how many were merged. */
static size_t search_some(struct class *c, const uint32_t *index, unsigned int n)
{
	struct search_limits lim = { .slots = c->sc->slots, .members = MERGE_MAX_MEMBERS };
	static struct mesh_cand cand[SEARCH_MAX];
	struct search_pair pairs[FOUND];
	size_t merged = 0;
	unsigned int i, found;
	double begun;

	for (i = 0; i < n; i++)
		cand[i] = c->group[index[i]];
	begun = cpu_now();
	search_begin(&search, cand, n, &lim);
	account(begun, 0);
	while (!search_done(&search)) {
		uint64_t probes = 0;

		begun = cpu_now();
		found = search_next(&search, pairs, FOUND, BUDGET, &probes);
		account(begun, probes);
		for (i = 0; i < found; i++)
			join(c, index, pairs[i]);
		merged += found;
	}
	return merged;
}

static void pass_class(struct class *c, size_t *candidates, size_t *merged)
{
	static uint32_t index[SEARCH_MAX];
	size_t seen = 0;
	unsigned int i, n;

	do {
		n = dequeue(c, index, SEARCH_MAX);
		*merged += search_some(c, index, n);
		for (i = 0; i < n; i++)
			if (c->group[index[i]].nr_members)
				enqueue(c, index[i]);
		seen += n;
	} while (n == SEARCH_MAX && seen < c->nr);
	*candidates += seen;
}

static void search_all(void)
{
	size_t candidates, merged;
	unsigned int cls;

	do {
		candidates = 0;
		merged = 0;
		for (cls = 1; cls <= NR_SMALL_CLASSES; cls++)
			pass_class(&classes[cls], &candidates, &merged);
		cost.passes++;
	} while (merged * TOO_FEW >= candidates && merged);
}

static size_t pages_left(void)
{
	size_t pages = 0;
	unsigned int cls;

	for (cls = 1; cls <= NR_SMALL_CLASSES; cls++)
		pages += classes[cls].nr * classes[cls].sc->pages;
	return pages;
}

static void drop(void)
{
	unsigned int cls, i;

	for (cls = 1; cls <= NR_SMALL_CLASSES; cls++) {
		struct class *c = &classes[cls];

		munmap(c->group, c->spans * sizeof(*c->group));
		for (i = 0; i < CENTRAL_LISTS; i++)
			munmap(c->queue[i].index, c->spans * sizeof(uint32_t));
	}
}

static void measure(size_t pages)
{
	size_t made, share = pages / NR_SMALL_CLASSES;
	double ideal = 0;
	unsigned int cls;

	for (cls = 1; cls <= NR_SMALL_CLASSES; cls++) {
		const struct sizeclass *sc = &sizeclasses[cls];
		size_t spans = share / sc->pages ? share / sc->pages : 1;
		size_t live = make_class(&classes[cls], sc, spans, pages * NR_CLASSES + cls);

		ideal += (double)live * sc->pages / sc->slots;
	}
	made = pages_left();
	cost = (struct cost){ 0 };
	search_all();
	printf("%zu,%zu,%.0f,%u,%llu,%.3f,%.1f,%lu,%llu,%.0f\n", made, pages_left(), ideal,
	       cost.passes, (unsigned long long)cost.probes, cost.seconds * 1e3,
	       cost.seconds * 1e9 / (double)made, cost.calls, (unsigned long long)cost.most,
	       cost.longest * 1e6);
	fflush(stdout);
	drop();
}

int main(int argc, char **argv)
{
	int portable = 0, i;
	const struct bench_option options[] = {
		{ "percent", .number = &percent },
		{ "portable", .flag = &portable },
		{ 0 }
	};

	i = bench_options(argc, argv, options,
			  "usage: search-cost [--percent N] [--portable] PAGES...\n");
	search_portable = portable;
	puts("pages,left,ideal,passes,comparisons,cpu_ms,ns_per_page,calls,most,longest_us");
	for (; i < argc; i++)
		measure(strtoul(argv[i], NULL, 10));
	return 0;
}
