/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Threads that sleep give back what they have cached, by themselves, and work on afterwards.
 */
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#define THREADS		16
#define OBJECTS		100
#define SIZES		8
#define SECONDS		30

static pthread_barrier_t barrier;

static size_t size_of(unsigned int i)
{
	return 32 << (i % SIZES / 2);
}

static void use_memory(unsigned int seed)
{
	static __thread unsigned char *p[OBJECTS * SIZES];
	unsigned int i;

	for (i = 0; i < OBJECTS * SIZES; i++) {
		p[i] = malloc(size_of(i));
		CHECK(p[i]);
		fill(p[i], size_of(i), seed + i);
	}
	for (i = 0; i < OBJECTS * SIZES; i++) {
		CHECK(is_filled(p[i], size_of(i), seed + i));
		free(p[i]);
	}
}

static void *sleeper(void *arg)
{
	unsigned int seed = (unsigned int)(size_t)arg;

	use_memory(seed);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	use_memory(seed);
	return NULL;
}

/* Objects in the caches of all threads, as malloc_info() has them. */
static unsigned long cached(void)
{
	unsigned long sum = 0;
	char *text = NULL, *p;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	CHECK(f && !malloc_info(0, f) && !fclose(f));
	for (p = text; (p = strstr(p, "cached=\"")); p++)
		sum += strtoul(p + strlen("cached=\""), NULL, 10);
	free(text);
	return sum;
}

int main(void)
{
	pthread_t t[THREADS];
	unsigned long before, after, i;

	/* the meshing thread starts */
	for (i = 0; i < 20000; i++)
		CHECK(malloc(500));
	CHECK(!pthread_barrier_init(&barrier, NULL, THREADS + 1));
	for (i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&t[i], NULL, sleeper, (void *)(i * 1000)));
	pthread_barrier_wait(&barrier);
	before = cached();
	CHECK(before > THREADS * OBJECTS);
	for (i = 0; i < SECONDS * 10; i++) {
		after = cached();
		if (after < before / 10)
			break;
		usleep(100000);
	}
	printf("cached %lu, then %lu\n", before, after);
	CHECK(after < before / 10);
	pthread_barrier_wait(&barrier);
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return 0;
}
