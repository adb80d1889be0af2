/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Threads allocate, fill, resize and check objects; half of the objects are passed
 * on and freed by another thread; the threads themselves come and go.
 *
 * stress [THREADS [ROUNDS]]
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "check.h"

#define OWN		400
#define SHARED		256
#define STEPS		30000

struct object {
	uint32_t size;
	uint32_t seed;
	unsigned char data[];
};

static struct object *_Atomic shared[SHARED];

static size_t random_size(uint64_t *rng)
{
	unsigned int r = next_random(rng);

	switch (r % 64) {
	case 0:
		return 1 + next_random(rng) % 200000;
	case 1 ... 8:
		return 1 + next_random(rng) % 20000;
	default:
		return 1 + next_random(rng) % 600;
	}
}

static struct object *make(uint64_t *rng)
{
	size_t size = random_size(rng);
	struct object *o = malloc(sizeof(*o) + size);

	CHECK(o);
	o->size = (uint32_t)size;
	o->seed = next_random(rng);
	fill(o->data, size, o->seed);
	return o;
}

static void destroy(struct object *o)
{
	if (!o)
		return;
	CHECK(is_filled(o->data, o->size, o->seed));
	memset(o, 0xdd, sizeof(*o) + o->size);
	free(o);
}

static struct object *resize(struct object *o, uint64_t *rng)
{
	size_t size = random_size(rng);
	size_t keep = size < o->size ? size : o->size;

	o = realloc(o, sizeof(*o) + size);
	CHECK(o && is_filled(o->data, keep, o->seed));
	o->size = (uint32_t)size;
	fill(o->data, size, o->seed);
	return o;
}

static void step(struct object **own, uint64_t *rng)
{
	unsigned int i = next_random(rng) % OWN;

	if (own[i] && next_random(rng) % 8 == 0) {
		own[i] = resize(own[i], rng);
	} else if (next_random(rng) % 2) {
		destroy(own[i]);
		own[i] = make(rng);
	} else {
		unsigned int j = next_random(rng) % SHARED;

		destroy(atomic_exchange(&shared[j], make(rng)));
	}
}

static void *worker(void *arg)
{
	uint64_t rng = (uintptr_t)arg * 0x9E3779B97F4A7C15ULL + 1;
	struct object *own[OWN] = { 0 };

	for (int i = 0; i < STEPS; i++)
		step(own, &rng);
	for (int i = 0; i < OWN; i++)
		destroy(own[i]);
	return NULL;
}

static void one_round(unsigned int threads, unsigned int round)
{
	pthread_t t[64];

	for (unsigned int i = 0; i < threads; i++)
		CHECK(pthread_create(&t[i], NULL, worker,
				     (void *)(uintptr_t)(round * 100 + i + 1)) == 0);
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
}

int main(int argc, char **argv)
{
	unsigned int threads = argc > 1 ? (unsigned int)atoi(argv[1]) : 6;
	unsigned int rounds = argc > 2 ? (unsigned int)atoi(argv[2]) : 3;

	CHECK(threads >= 1 && threads <= 64);
	for (unsigned int i = 0; i < rounds; i++) {
		one_round(threads, i);
		malloc_trim(0);
	}
	for (int i = 0; i < SHARED; i++)
		destroy(shared[i]);
	return 0;
}
