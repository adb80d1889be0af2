// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * churn: threads that allocate and free at random, with every payload checked.
 *
 * Data: one table of slots, each empty or holding an object. An operation takes a
 * random slot's content by an atomic exchange: an object is checked and freed, an
 * empty slot gets a new one. By default each thread has its own part of the table;
 * with --shared all use all of it, so that most objects are freed by another thread
 * than the one that allocated them.
 *
 * With --tide the objects become fewer and more by turns, so that there are always spans
 * that have become sparse, which churn alone keeps full.
 *
 * An object carries its size and the seed of its payload in its first 16 bytes.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MAX_THREADS	256
#define FINE		32		/* latency: buckets for each power of two */
#define BUCKETS		(64 * FINE)
#define EBB_FILLS	8		/* at ebb, one in this many empty slots is filled */

enum call {
	MALLOC,
	FREE,
	NR_CALLS
};

struct object {
	uint64_t size;
	uint64_t seed;
	unsigned char payload[];
};

struct worker {
	pthread_t thread;
	uint64_t random;
	size_t first;			/* the part of the table this worker uses */
	size_t slots;
	unsigned long wrong;
	unsigned long latency[NR_CALLS][BUCKETS];
};

static struct {
	unsigned long threads;
	unsigned long ops;
	unsigned long tide;
	size_t slots;
	size_t min;
	size_t max;
	uint64_t seed;
	int shared;
	int latency;
} opt = { .threads = 2, .ops = 2000000, .slots = 20000, .min = 16, .max = 1024, .seed = 1 };

static _Atomic(struct object *) *table;

static unsigned int bucket_of(uint64_t ticks)
{
	unsigned int log;

	if (ticks < FINE)
		return (unsigned int)ticks;
	log = 63 - (unsigned int)__builtin_clzll(ticks / FINE);
	return log * FINE + (unsigned int)(ticks >> log);
}

/* The least time that falls into bucket @b. */
static uint64_t bucket_ticks(unsigned int b)
{
	if (b < FINE)
		return b;
	return (uint64_t)(FINE + b % FINE) << (b / FINE - 1);
}

/*
 * The processor's counter costs less than the system's clock, and waits for what comes
 * before it. What it costs is part of each latency, and printed as clock_ns.
 */
static uint64_t ticks(void)
{
#ifdef __x86_64__
	unsigned int cpu;

	return __builtin_ia32_rdtscp(&cpu);
#else
	return (uint64_t)(now() * 1e9);
#endif
}

static uint64_t ticks_if_wanted(void)
{
	return opt.latency ? ticks() : 0;
}

static void count_latency(struct worker *w, enum call call, uint64_t start)
{
	if (opt.latency)
		w->latency[call][bucket_of(ticks() - start)]++;
}

static struct object *create(struct worker *w)
{
	size_t size = opt.min + mix(w->random) % (opt.max - opt.min + 1);
	uint64_t start = ticks_if_wanted();
	struct object *o = malloc(size);

	count_latency(w, MALLOC, start);
	if (!o)
		die("out of memory");
	o->size = size;
	o->seed = w->random;
	payload_fill(o->payload, size - sizeof(*o), o->seed);
	return o;
}

static void destroy(struct worker *w, struct object *o)
{
	uint64_t start;

	if (o->size < opt.min || o->size > opt.max ||
	    !payload_ok(o->payload, o->size - sizeof(*o), o->seed)) {
		w->wrong++;
		return;
	}
	start = ticks_if_wanted();
	free(o);
	count_latency(w, FREE, start);
}

/* Is an empty slot that operation @i has found to be filled? */
static int fills(const struct worker *w, unsigned long i)
{
	return !opt.tide || i / opt.tide % 2 == 0 || (w->random >> 32) % EBB_FILLS == 0;
}

static void *work(void *arg)
{
	struct object *old, *new;
	struct worker *w = arg;
	unsigned long i;
	size_t slot;

	for (i = 0; i < opt.ops; i++) {
		w->random = mix(w->random);
		slot = w->first + w->random % w->slots;
		new = atomic_load(&table[slot]) || !fills(w, i) ? NULL : create(w);
		old = atomic_exchange(&table[slot], new);
		if (old)
			destroy(w, old);
	}
	return NULL;
}

static void start_workers(struct worker *workers)
{
	struct worker *w;
	unsigned int i;

	for (i = 0; i < opt.threads; i++) {
		w = &workers[i];
		w->random = mix(opt.seed + i);
		w->slots = opt.shared ? opt.slots * opt.threads : opt.slots;
		w->first = opt.shared ? 0 : opt.slots * i;
		if (pthread_create(&w->thread, NULL, work, w))
			die("cannot start a thread");
	}
}

static void add_latency(struct worker *to, const struct worker *from)
{
	unsigned int call, b;

	for (call = 0; call < NR_CALLS; call++)
		for (b = 0; b < BUCKETS; b++)
			to->latency[call][b] += from->latency[call][b];
}

/* Add everything up in the first worker. */
static void join_workers(struct worker *workers)
{
	unsigned int i;

	for (i = 0; i < opt.threads; i++) {
		pthread_join(workers[i].thread, NULL);
		if (!i)
			continue;
		workers[0].wrong += workers[i].wrong;
		add_latency(&workers[0], &workers[i]);
	}
}

static void destroy_rest(struct worker *w)
{
	size_t i;

	for (i = 0; i < opt.slots * opt.threads; i++) {
		if (table[i])
			destroy(w, table[i]);
	}
}

static uint64_t percentile(const unsigned long latency[BUCKETS], double part)
{
	unsigned long total = 0, seen = 0;
	unsigned int b;

	for (b = 0; b < BUCKETS; b++)
		total += latency[b];
	for (b = 0; b < BUCKETS; b++) {
		seen += latency[b];
		if (seen && (double)seen >= part * (double)total)
			return bucket_ticks(b);
	}
	return 0;
}

/* What it looks like when nothing is timed. */
static uint64_t clock_ticks(void)
{
	uint64_t start, took, least = UINT64_MAX;
	int i;

	for (i = 0; i < 1000; i++) {
		start = ticks();
		took = ticks() - start;
		if (took < least)
			least = took;
	}
	return least;
}

static void print_latency(const struct worker *w, double ns)
{
	static const char *const calls[] = { "malloc", "free" };
	static const struct {
		const char *name;
		double part;
	} parts[] = {
		{ "p50", 0.5 }, { "p99", 0.99 }, { "p99.9", 0.999 }, { "p99.99", 0.9999 },
		{ "max", 1 }
	};
	unsigned int call, i;

	printf(" clock_ns=%.0f", (double)clock_ticks() * ns);
	for (call = 0; call < NR_CALLS; call++)
		for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
			printf(" %s_%s_ns=%.0f", calls[call], parts[i].name,
			       (double)percentile(w->latency[call], parts[i].part) * ns);
}

/* Seconds of processor time, of the library's own thread as well. */
static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* @ns: nanoseconds of a tick. */
static void print_result(const struct worker *w, double seconds, double ns)
{
	double ops = (double)opt.ops * opt.threads;
	struct memory m;

	memory_read(&m);
	printf("result: ns_per_op=%.1f cpu_ns_per_op=%.1f pss_kb=%ld rss_kb=%ld"
	       " objects_wrong=%lu merges=%ld",
	       seconds * 1e9 / ops, cpu_seconds() * 1e9 / ops, m.pss_kb, m.rss_kb, w->wrong,
	       merges());
	if (opt.latency)
		print_latency(w, ns);
	putchar('\n');
}

static void parse_options(int argc, char **argv)
{
	static const char usage[] =
		"usage: churn [--threads N] [--ops N] [--slots N] [--min BYTES] [--max BYTES]\n"
		"             [--seed N] [--shared] [--tide N] [--latency]\n"
		"  --ops N    operations of each thread\n"
		"  --slots N  objects of each thread, of which half live on average\n"
		"  --shared   objects are freed by any thread\n"
		"  --tide N   in every other N operations of a thread few objects are made\n"
		"  --latency  time each malloc and free, print percentiles\n";
	static const struct bench_option options[] = {
		{ "threads", .number = &opt.threads },
		{ "ops", .number = &opt.ops },
		{ "slots", .number = &opt.slots },
		{ "min", .number = &opt.min },
		{ "max", .number = &opt.max },
		{ "seed", .number = &opt.seed },
		{ "tide", .number = &opt.tide },
		{ "shared", .flag = &opt.shared },
		{ "latency", .flag = &opt.latency },
		{ 0 }
	};

	if (bench_options(argc, argv, options, usage) != argc || !opt.threads ||
	    opt.threads > MAX_THREADS || !opt.slots || opt.min > opt.max ||
	    opt.min < sizeof(struct object))
		bench_misused(usage);
}

int main(int argc, char **argv)
{
	struct worker *workers;
	double start, seconds;
	uint64_t first;

	parse_options(argc, argv);
	table = map_or_die(opt.slots * opt.threads * sizeof(*table));
	workers = map_or_die(opt.threads * sizeof(*workers));
	start = now();
	first = ticks();
	start_workers(workers);
	join_workers(workers);
	seconds = now() - start;
	print_result(&workers[0], seconds, seconds * 1e9 / (double)(ticks() - first));
	destroy_rest(&workers[0]);
	if (workers[0].wrong)
		fprintf(stderr, "churn: %lu objects wrong\n", workers[0].wrong);
	return workers[0].wrong != 0;
}
