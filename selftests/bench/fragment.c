// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fragment: leave a heap full of holes, then wait and watch the memory use.
 *
 * Allocates many objects of random small sizes, frees a random part of them, and
 * sleeps; an allocator that meshes gets smaller meanwhile. Optional writer threads
 * go on rewriting live objects in that time. At the end every byte of every live
 * object is checked.
 *
 * Data: three flat tables indexed by object: pointer, generation (what was written
 * last), both outside malloc; size and payload follow from (seed, index,
 * generation). Writer w owns the objects with index % writers == w; the main thread
 * touches them only before the writers start and after they have ended.
 */
#include "bench.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_WRITERS	64

static struct {
	size_t objects;
	size_t min;
	size_t max;
	unsigned long free_percent;
	double idle;
	double until_merged;
	unsigned long writers;
	uint64_t seed;
	int trim;
} opt = { .objects = 2000000, .min = 16, .max = 512, .free_percent = 50, .idle = 10, .seed = 1 };

static unsigned char **object;
static unsigned char *generation;
static atomic_int stop;

static size_t size_of(size_t i)
{
	return opt.min + mix(opt.seed + i) % (opt.max - opt.min + 1);
}

static uint64_t payload_of(size_t i)
{
	return mix(opt.seed ^ ((uint64_t)i << 8 | generation[i]));
}

static size_t table_bytes(void)
{
	return opt.objects * (sizeof(*object) + sizeof(*generation));
}

/* A line of the story; what the tables above take is not the allocator's fault. */
static struct memory report(const char *when, size_t live)
{
	long table_kb = (long)(table_bytes() >> 10);
	struct memory m;

	memory_read(&m);
	m.pss_kb -= table_kb;
	m.rss_kb -= table_kb;
	printf("%-12s live %zu kB, PSS %ld kB, RSS %ld kB, %ld mappings\n", when, live >> 10,
	       m.pss_kb, m.rss_kb, mappings());
	fflush(stdout);
	return m;
}

static size_t allocate_all(void)
{
	size_t i, live = 0;

	for (i = 0; i < opt.objects; i++) {
		object[i] = malloc(size_of(i));
		if (!object[i])
			die("out of memory at object %zu", i);
		payload_fill(object[i], size_of(i), payload_of(i));
		live += size_of(i);
	}
	return live;
}

static size_t free_some(size_t live)
{
	size_t i;

	for (i = 0; i < opt.objects; i++) {
		if (mix(~opt.seed + i) % 100 >= opt.free_percent)
			continue;
		free(object[i]);
		object[i] = NULL;
		live -= size_of(i);
	}
	return live;
}

static void *writer(void *arg)
{
	size_t i, w = (size_t)arg, own = opt.objects / opt.writers;
	uint64_t r = opt.seed + w;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		r = mix(r);
		i = r % own * opt.writers + w;
		if (!object[i])
			continue;
		generation[i]++;
		payload_fill(object[i], size_of(i), payload_of(i));
	}
	return NULL;
}

static struct memory watch(size_t live)
{
	double start, left;
	struct memory m;
	char when[32];

	if (opt.trim)
		malloc_trim(0);
	if (opt.until_merged > 0)
		await_merge(opt.until_merged);
	start = now();
	do {
		left = opt.idle - (now() - start);
		sleep_for(left > 1 ? 1 : left > 0 ? left : 0);
		snprintf(when, sizeof(when), "idle %.0f s:", now() - start);
		m = report(when, live);
	} while (now() - start < opt.idle);
	return m;
}

static struct memory idle(size_t live)
{
	pthread_t thread[MAX_WRITERS];
	struct memory m;
	size_t w;

	for (w = 0; w < opt.writers; w++) {
		if (pthread_create(&thread[w], NULL, writer, (void *)w))
			die("cannot start a writer");
	}
	m = watch(live);
	atomic_store(&stop, 1);
	for (w = 0; w < opt.writers; w++)
		pthread_join(thread[w], NULL);
	return m;
}

static size_t count_wrong(void)
{
	size_t i, wrong = 0;

	for (i = 0; i < opt.objects; i++) {
		if (object[i] && !payload_ok(object[i], size_of(i), payload_of(i)))
			wrong++;
	}
	return wrong;
}

static void free_rest(void)
{
	size_t i;

	for (i = 0; i < opt.objects; i++)
		free(object[i]);
}

static void parse_options(int argc, char **argv)
{
	static const char usage[] =
		"usage: fragment [--objects N] [--min BYTES] [--max BYTES] [--free PERCENT]\n"
		"                [--idle SECONDS] [--writers N] [--seed N] [--trim]\n"
		"                [--until-merged SECONDS]\n"
		"  --writers N  threads that rewrite live objects during the idle time\n"
		"  --trim       call malloc_trim(0) at the start of the idle time\n"
		"  --until-merged SECONDS\n"
		"               wait for a merge before the idle time, so long at most\n"
		"PSS and RSS are printed without the program's own tables.\n";
	static const struct bench_option options[] = {
		{ "objects", .number = &opt.objects },
		{ "min", .number = &opt.min },
		{ "max", .number = &opt.max },
		{ "free", .number = &opt.free_percent },
		{ "idle", .seconds = &opt.idle },
		{ "writers", .number = &opt.writers },
		{ "seed", .number = &opt.seed },
		{ "trim", .flag = &opt.trim },
		{ "until-merged", .seconds = &opt.until_merged },
		{ 0 }
	};

	if (bench_options(argc, argv, options, usage) != argc || !opt.objects ||
	    opt.min > opt.max || opt.writers > MAX_WRITERS || opt.objects < opt.writers)
		bench_misused(usage);
}

int main(int argc, char **argv)
{
	struct memory m;
	size_t live, wrong;

	parse_options(argc, argv);
	object = map_or_die(opt.objects * sizeof(*object));
	generation = map_or_die(opt.objects * sizeof(*generation));
	memset(generation, 1, opt.objects);

	live = allocate_all();
	report("allocated:", live);
	live = free_some(live);
	report("freed:", live);
	m = idle(live);
	wrong = count_wrong();
	printf("result: live_kb=%zu pss_kb=%ld rss_kb=%ld mappings=%ld objects_wrong=%zu\n",
	       live >> 10, m.pss_kb, m.rss_kb, mappings(), wrong);
	free_rest();
	return wrong != 0;
}
