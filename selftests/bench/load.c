// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * load: one workload of an allocator, by name, for suite.py to time. "load --list" prints the
 * names, "load NAME [PERCENT]" does that much of the work.
 *
 * The first bytes of each object are written when it is allocated and looked at when it is freed,
 * as a program would; large blocks are written once in each page.
 */
#include "bench.h"

#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096u

extern char **environ;

static unsigned int percent = 100;

static size_t scaled(size_t n)
{
	return n * percent / 100;
}

/* Objects */

static void *checked(void *p)
{
	if (!p)
		die("out of memory");
	return p;
}

static void *get(size_t size)
{
	char *p = checked(malloc(size));

	*(volatile char *)p = (char)size;
	return p;
}

/* As get(), with every page of it in use. */
static void *get_pages(size_t size)
{
	char *p = get(size);

	for (size_t i = 0; i < size; i += PAGE)
		*(volatile char *)(p + i) = 1;
	return p;
}

static void put(void *p)
{
	if (p)
		(void)*(volatile char *)p;
	free(p);
}

static uint64_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dULL >> 16;
}

/* From @min up; each doubling up to 2 to the power @doublings times as much is as likely. */
static size_t random_size(uint64_t *state, size_t min, unsigned int doublings)
{
	uint64_t r = next(state);
	size_t base = min << (r & 0xffff) % doublings;

	return base + (r >> 16) % base;
}

/* Threads */

struct worker {
	pthread_t thread;
	uint64_t random;
	void **objects;
	size_t nr;
	size_t rounds;
	struct worker *peer;
};

static void start(struct worker *w, void *(*fn)(void *))
{
	if (pthread_create(&w->thread, NULL, fn, w))
		die("cannot start a thread");
}

static void run_threads(unsigned int nr, size_t objects, size_t rounds, void *(*fn)(void *))
{
	struct worker *workers = map_or_die(nr * sizeof(*workers));

	for (unsigned int i = 0; i < nr; i++) {
		workers[i].random = mix(i + 1);
		workers[i].nr = objects;
		workers[i].rounds = scaled(rounds);
		workers[i].peer = &workers[(i + 1) % nr];
		workers[i].objects = map_or_die(objects * sizeof(void *));
	}
	for (unsigned int i = 0; i < nr; i++)
		start(&workers[i], fn);
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(workers[i].thread, NULL);
}

/* One size */

static void *pairs(void *arg)
{
	struct worker *w = arg;

	for (size_t i = 0; i < w->rounds; i++)
		put(get(w->nr));
	return NULL;
}

static void pair(void)
{
	run_threads(1, 64, 40000000, pairs);
}

static void pair_threads(void)
{
	run_threads(2, 64, 20000000, pairs);
}

/* More than a cache holds, freed in the order of allocation and against it. */
static void batch(void)
{
	static void *p[2000];

	for (size_t round = 0; round < scaled(4000); round++) {
		size_t size = 16u << round % 6;

		for (size_t i = 0; i < 2000; i++)
			p[i] = get(size);
		for (size_t i = 0; i < 2000; i++)
			put(p[round & 1 ? i : 1999 - i]);
	}
}

static void queue(void)
{
	static void *p[50000];

	for (size_t i = 0; i < scaled(10000000); i++) {
		put(p[i % 50000]);
		p[i % 50000] = get(48);
	}
}

/* Random sizes and lifetimes */

static void replace(struct worker *w, size_t min, unsigned int doublings)
{
	for (size_t i = 0; i < w->rounds; i++) {
		size_t slot = next(&w->random) % w->nr;

		put(w->objects[slot]);
		w->objects[slot] = get_pages(random_size(&w->random, min, doublings));
	}
}

static void *replace_small(void *arg)
{
	replace(arg, 16, 6);
	return NULL;
}

static void *replace_any(void *arg)
{
	replace(arg, 16, 12);
	return NULL;
}

static void small(void)
{
	run_threads(1, 50000, 4000000, replace_small);
}

static void small_threads(void)
{
	run_threads(2, 50000, 2500000, replace_small);
}

static void many_threads(void)
{
	run_threads(64, 1000, 250000, replace_small);
}

static void very_many_threads(void)
{
	run_threads(512, 125, 31250, replace_small);
}

static void any(void)
{
	run_threads(1, 10000, 2000000, replace_any);
}

/* Grow, shed nine of ten, and grow by objects of other sizes. */
static void phases(void)
{
	size_t nr = scaled(250000);
	void **p = map_or_die(4 * nr * sizeof(*p));
	uint64_t random = 5;

	for (unsigned int phase = 0; phase < 4; phase++) {
		for (size_t i = 0; i < nr; i++)
			p[phase * nr + i] = get(random_size(&random, 24u << phase, 1));
		for (size_t i = 0; i < nr; i++) {
			if (!(next(&random) % 10))
				continue;
			put(p[phase * nr + i]);
			p[phase * nr + i] = NULL;
		}
	}
}

/* A tree that is built, walked and torn down. */
struct tree {
	struct tree *left;
	struct tree *right;
	uint64_t key;
};

static struct tree *grow(unsigned int depth)
{
	struct tree *t = checked(malloc(sizeof(*t)));

	t->key = depth;
	t->left = depth ? grow(depth - 1) : NULL;
	t->right = depth ? grow(depth - 1) : NULL;
	return t;
}

static uint64_t sum(const struct tree *t)
{
	return t ? t->key + sum(t->left) + sum(t->right) : 0;
}

static void cut(struct tree *t)
{
	if (t->left)
		cut(t->left);
	if (t->right)
		cut(t->right);
	free(t);
}

static void trees(void)
{
	struct tree *stays = grow(16);

	for (size_t i = 0; i < scaled(160); i++) {
		struct tree *t = grow(14);

		if (sum(t) != 32752)
			die("wrong sum");
		cut(t);
	}
	cut(stays);
}

/* Objects that other threads free */

/* As in a server: any thread replaces any object. */
static _Atomic(void *) shared[20000];

static void *exchange(void *arg)
{
	struct worker *w = arg;

	for (size_t i = 0; i < w->rounds; i++) {
		void *p = get(random_size(&w->random, 16, 5));

		put(atomic_exchange(&shared[next(&w->random) % 20000], p));
	}
	return NULL;
}

static void larson(void)
{
	run_threads(2, 1, 4000000, exchange);
}

static void larson_threads(void)
{
	run_threads(16, 1, 500000, exchange);
}

/* Batches of objects, from those who only allocate to those who only free. */
#define LOAD	128
#define DEPTH	64

struct load {
	void *p[LOAD];
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t not_empty;
	pthread_cond_t not_full;
	struct load *loads[DEPTH];
	unsigned int nr;
} pipeline = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.not_empty = PTHREAD_COND_INITIALIZER,
	.not_full = PTHREAD_COND_INITIALIZER,
};

static void send(struct load *l)
{
	pthread_mutex_lock(&pipeline.lock);
	while (pipeline.nr == DEPTH)
		pthread_cond_wait(&pipeline.not_full, &pipeline.lock);
	pipeline.loads[pipeline.nr++] = l;
	pthread_cond_signal(&pipeline.not_empty);
	pthread_mutex_unlock(&pipeline.lock);
}

static struct load *receive(void)
{
	struct load *l;

	pthread_mutex_lock(&pipeline.lock);
	while (!pipeline.nr)
		pthread_cond_wait(&pipeline.not_empty, &pipeline.lock);
	l = pipeline.loads[--pipeline.nr];
	pthread_cond_signal(&pipeline.not_full);
	pthread_mutex_unlock(&pipeline.lock);
	return l;
}

static void *produce(void *arg)
{
	struct worker *w = arg;

	for (size_t i = 0; i < w->rounds; i++) {
		struct load *l = get(sizeof(*l));

		for (size_t j = 0; j < LOAD; j++)
			l->p[j] = get(random_size(&w->random, 16, 5));
		send(l);
	}
	return NULL;
}

static void *consume(void *arg)
{
	struct worker *w = arg;

	for (size_t i = 0; i < w->rounds; i++) {
		struct load *l = receive();

		for (size_t j = 0; j < LOAD; j++)
			put(l->p[j]);
		put(l);
	}
	return NULL;
}

/* Even workers produce, odd ones consume. */
static void *producer_or_consumer(void *arg)
{
	struct worker *w = arg;

	return mix(1) == w->random || mix(3) == w->random ? produce(w) : consume(w);
}

static void xmalloc(void)
{
	run_threads(2, 1, 30000, producer_or_consumer);
}

static void xmalloc_threads(void)
{
	run_threads(4, 1, 25000, producer_or_consumer);
}

/* Each thread frees what its predecessor has left, and leaves something itself. */
static void *inherit(void *arg)
{
	struct worker *w = arg;

	for (size_t i = 0; i < w->nr; i++) {
		put(w->objects[i]);
		w->objects[i] = get(random_size(&w->random, 16, 6));
	}
	return NULL;
}

static void thread_churn(void)
{
	struct worker w[2] = { 0 };

	for (int i = 0; i < 2; i++)
		w[i] = (struct worker){ .random = mix(i), .nr = 2000,
					.objects = map_or_die(2000 * sizeof(void *)) };
	for (size_t round = 0; round < scaled(1200); round++) {
		start(&w[0], inherit);
		start(&w[1], inherit);
		pthread_join(w[0].thread, NULL);
		pthread_join(w[1].thread, NULL);
	}
}

static void *a_few(void *arg)
{
	for (size_t size = 16; size <= 4096; size *= 2)
		put(get(size));
	return arg;
}

static void short_threads(void)
{
	struct worker w = { 0 };

	for (size_t i = 0; i < scaled(10000); i++) {
		start(&w, a_few);
		pthread_join(w.thread, NULL);
	}
}

/* Large blocks */

static void *replace_pages(void *arg, size_t min, unsigned int doublings)
{
	struct worker *w = arg;

	for (size_t i = 0; i < w->rounds; i++) {
		size_t slot = next(&w->random) % w->nr;

		put(w->objects[slot]);
		w->objects[slot] = get_pages(random_size(&w->random, min, doublings));
	}
	return NULL;
}

static void *replace_medium(void *arg)
{
	return replace_pages(arg, 4096, 4);
}

static void *replace_large(void *arg)
{
	return replace_pages(arg, 65536, 4);
}

static void *replace_huge(void *arg)
{
	return replace_pages(arg, 1 << 20, 4);
}

static void medium(void)
{
	run_threads(1, 2000, 800000, replace_medium);
}

static void large(void)
{
	run_threads(1, 100, 30000, replace_large);
}

static void huge(void)
{
	run_threads(1, 10, 500, replace_huge);
}

/* The same buffer again and again, as around one request or one frame. */
static void buffer(void)
{
	for (size_t i = 0; i < scaled(40000); i++) {
		put(get_pages(200000));
		if (i % 20 == 0)
			put(get_pages(3000000));
	}
}

static void *grow_to(void *p, size_t *size, size_t to)
{
	p = checked(realloc(p, to));
	memset((char *)p + *size, 1, to - *size);
	*size = to;
	return p;
}

/* Vectors that double, or grow by a half, up to 64 MiB. */
static void vector(void)
{
	for (size_t i = 0; i < scaled(10); i++) {
		size_t size = 0;
		char *p = NULL;

		for (size_t to = 16; to <= 64 << 20; to += i & 1 ? to : to / 2)
			p = grow_to(p, &size, to);
		put(p);
	}
}

/* Many strings that grow a little at a time. */
static void strings(void)
{
	static struct { char *p; size_t size; } s[5000];
	uint64_t random = 9;

	for (size_t i = 0; i < scaled(4000000); i++) {
		size_t slot = next(&random) % 5000;
		size_t more = 1 + random % 60;

		if (s[slot].size > 2000) {
			put(s[slot].p);
			s[slot].p = NULL;
			s[slot].size = 0;
		}
		s[slot].p = grow_to(s[slot].p, &s[slot].size, s[slot].size + more);
	}
}

/* Zeroed memory, mostly not used in full. */
static void zeroed(void)
{
	static void *p[500];
	uint64_t random = 3;

	for (size_t i = 0; i < scaled(150000); i++) {
		size_t slot = next(&random) % 500;

		put(p[slot]);
		p[slot] = checked(calloc(1, random_size(&random, 64, 12)));
		*(volatile char *)p[slot] = 1;
	}
}

static void aligned(void)
{
	static void *p[5000];
	uint64_t random = 3;

	for (size_t i = 0; i < scaled(1500000); i++) {
		size_t slot = next(&random) % 5000;
		size_t align = 16u << random % 7;

		put(p[slot]);
		p[slot] = checked(aligned_alloc(align, align * (1 + (random >> 8) % 4)));
		*(volatile char *)p[slot] = 1;
	}
}

/* Short processes, as in a configure script. */
static void processes(void)
{
	char *argv[] = { "/bin/true", NULL };
	int status;
	pid_t pid;

	for (size_t i = 0; i < scaled(500); i++) {
		if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ))
			die("cannot start %s", argv[0]);
		waitpid(pid, &status, 0);
	}
}

static const struct {
	const char *name;
	void (*fn)(void);
} workloads[] = {
	{ "pair", pair },
	{ "pair-2", pair_threads },
	{ "batch", batch },
	{ "queue", queue },
	{ "small", small },
	{ "small-2", small_threads },
	{ "small-64", many_threads },
	{ "small-512", very_many_threads },
	{ "any", any },
	{ "phases", phases },
	{ "trees", trees },
	{ "larson-2", larson },
	{ "larson-16", larson_threads },
	{ "xmalloc-2", xmalloc },
	{ "xmalloc-4", xmalloc_threads },
	{ "thread-churn", thread_churn },
	{ "short-threads", short_threads },
	{ "medium", medium },
	{ "large", large },
	{ "huge", huge },
	{ "buffer", buffer },
	{ "vector", vector },
	{ "strings", strings },
	{ "zeroed", zeroed },
	{ "aligned", aligned },
	{ "processes", processes },
};

#define NR_WORKLOADS	(sizeof(workloads) / sizeof(*workloads))

int main(int argc, char **argv)
{
	size_t i;

	for (i = 0; argc == 2 && !strcmp(argv[1], "--list") && i < NR_WORKLOADS; i++)
		puts(workloads[i].name);
	if (i)
		return 0;
	if (argc < 2)
		die("usage: load --list | load NAME [PERCENT]");
	if (argc > 2)
		percent = (unsigned int)atoi(argv[2]);
	for (i = 0; i < NR_WORKLOADS && strcmp(workloads[i].name, argv[1]); i++)
		;
	if (i == NR_WORKLOADS)
		die("no workload %s", argv[1]);
	workloads[i].fn();
	return 0;
}
