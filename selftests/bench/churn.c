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
 * An object carries its size and the seed of its payload in its first 16 bytes.
 */
#include "bench.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS	256
#define BUCKETS		(64 * 8)	/* latency: 8 buckets for each power of two */

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
	unsigned long latency[BUCKETS];
};

static struct {
	unsigned int threads;
	unsigned long ops;
	size_t slots;
	size_t min;
	size_t max;
	uint64_t seed;
	int shared;
	int latency;
} opt = { .threads = 2, .ops = 2000000, .slots = 20000, .min = 16, .max = 1024, .seed = 1 };

static _Atomic(struct object *) *table;

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int log;

	if (ns < 8)
		return (unsigned int)ns;
	log = 63 - (unsigned int)__builtin_clzll(ns);
	return log * 8 + (unsigned int)(ns >> (log - 3) & 7);
}

/* The least time that falls into bucket @b. */
static uint64_t bucket_ns(unsigned int b)
{
	if (b < 8)
		return b;
	return (8ULL | (b & 7)) << (b / 8 - 3);
}

static double clock_if_wanted(void)
{
	return opt.latency ? now() : 0;
}

static void count_latency(struct worker *w, double start)
{
	if (opt.latency)
		w->latency[bucket_of((uint64_t)((now() - start) * 1e9))]++;
}

static struct object *create(struct worker *w)
{
	size_t size = opt.min + mix(w->random) % (opt.max - opt.min + 1);
	double start = clock_if_wanted();
	struct object *o = malloc(size);

	count_latency(w, start);
	if (!o)
		die("out of memory");
	o->size = size;
	o->seed = w->random;
	payload_fill(o->payload, size - sizeof(*o), o->seed);
	return o;
}

static void destroy(struct worker *w, struct object *o)
{
	double start;

	if (o->size < opt.min || o->size > opt.max ||
	    !payload_ok(o->payload, o->size - sizeof(*o), o->seed)) {
		w->wrong++;
		return;
	}
	start = clock_if_wanted();
	free(o);
	count_latency(w, start);
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
		new = atomic_load(&table[slot]) ? NULL : create(w);
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

/* Add everything up in the first worker. */
static void join_workers(struct worker *workers)
{
	unsigned int i, b;

	for (i = 0; i < opt.threads; i++) {
		pthread_join(workers[i].thread, NULL);
		if (!i)
			continue;
		workers[0].wrong += workers[i].wrong;
		for (b = 0; b < BUCKETS; b++)
			workers[0].latency[b] += workers[i].latency[b];
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

static uint64_t percentile(const struct worker *w, double part)
{
	unsigned long total = 0, seen = 0;
	unsigned int b;

	for (b = 0; b < BUCKETS; b++)
		total += w->latency[b];
	for (b = 0; b < BUCKETS; b++) {
		seen += w->latency[b];
		if (seen && (double)seen >= part * (double)total)
			return bucket_ns(b);
	}
	return 0;
}

static void print_result(const struct worker *w, double seconds)
{
	double ops = (double)opt.ops * opt.threads;
	struct memory m;

	memory_read(&m);
	printf("result: ns_per_op=%.1f pss_kb=%ld rss_kb=%ld objects_wrong=%lu",
	       seconds * 1e9 / ops, m.pss_kb, m.rss_kb, w->wrong);
	if (opt.latency)
		printf(" p50_ns=%lu p99_ns=%lu p99.9_ns=%lu p99.99_ns=%lu max_ns=%lu",
		       percentile(w, 0.5), percentile(w, 0.99), percentile(w, 0.999),
		       percentile(w, 0.9999),
		       percentile(w, 1));
	putchar('\n');
}

static void __attribute__((noreturn)) usage(int code)
{
	fputs("usage: churn [--threads N] [--ops N] [--slots N] [--min BYTES] [--max BYTES]\n"
	      "             [--seed N] [--shared] [--latency]\n"
	      "  --ops N    operations of each thread\n"
	      "  --slots N  objects of each thread, of which half live on average\n"
	      "  --shared   objects are freed by any thread\n"
	      "  --latency  time each malloc and free, print percentiles\n",
	      code ? stderr : stdout);
	exit(code);
}

static void parse_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "threads", required_argument, NULL, 't' },
		{ "ops", required_argument, NULL, 'o' },
		{ "slots", required_argument, NULL, 'n' },
		{ "min", required_argument, NULL, 'm' },
		{ "max", required_argument, NULL, 'M' },
		{ "seed", required_argument, NULL, 's' },
		{ "shared", no_argument, &opt.shared, 1 },
		{ "latency", no_argument, &opt.latency, 1 },
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 0:
			break;
		case 't':
			opt.threads = (unsigned int)atoi(optarg);
			break;
		case 'o':
			opt.ops = strtoul(optarg, NULL, 10);
			break;
		case 'n':
			opt.slots = strtoul(optarg, NULL, 10);
			break;
		case 'm':
			opt.min = strtoul(optarg, NULL, 10);
			break;
		case 'M':
			opt.max = strtoul(optarg, NULL, 10);
			break;
		case 's':
			opt.seed = strtoull(optarg, NULL, 10);
			break;
		default:
			usage(o == 'h' ? 0 : 2);
		}
	}
	if (!opt.threads || opt.threads > MAX_THREADS || !opt.slots || opt.min > opt.max ||
	    opt.min < sizeof(struct object))
		usage(2);
}

int main(int argc, char **argv)
{
	struct worker *workers;
	double start, seconds;

	parse_options(argc, argv);
	table = map_or_die(opt.slots * opt.threads * sizeof(*table));
	workers = map_or_die(opt.threads * sizeof(*workers));
	start = now();
	start_workers(workers);
	join_workers(workers);
	seconds = now() - start;
	print_result(&workers[0], seconds);
	destroy_rest(&workers[0]);
	if (workers[0].wrong)
		fprintf(stderr, "churn: %lu objects wrong\n", workers[0].wrong);
	return workers[0].wrong != 0;
}
