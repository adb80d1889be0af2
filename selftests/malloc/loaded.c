/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * A library that allocates in its constructor, in its threads' data and in its destructor. It is
 * loaded by malloc-dlopen, and preloaded before and after libmesh.so. Its constructor waits for a
 * thread that makes a mutex, perhaps the first one of the process.
 */
#include <pthread.h>

#include "check.h"

static char *early;
static pthread_key_t key;

void *loaded_alloc(size_t size);

static void *make_mutex(void *unused)
{
	pthread_mutex_t mutex;

	CHECK(pthread_mutex_init(&mutex, NULL) == 0);
	CHECK(pthread_mutex_destroy(&mutex) == 0);
	return unused;
}

__attribute__((constructor)) static void loaded(void)
{
	pthread_t t;

	CHECK(pthread_create(&t, NULL, make_mutex, NULL) == 0);
	CHECK(pthread_join(t, NULL) == 0);
	early = malloc(3000);
	CHECK(early);
	fill(early, 3000, 1);
	CHECK(pthread_key_create(&key, free) == 0);
}

__attribute__((destructor)) static void unloaded(void)
{
	CHECK(is_filled(early, 3000, 1));
	free(early);
	CHECK(pthread_key_delete(key) == 0);
}

/* Leaves something behind that the thread's end frees. */
void *loaded_alloc(size_t size)
{
	void *p = malloc(size);

	CHECK(p);
	if (!pthread_getspecific(key))
		CHECK(pthread_setspecific(key, malloc(size)) == 0);
	fill(p, size, 2);
	return p;
}
