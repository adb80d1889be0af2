/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * A library that allocates in its constructor, in its threads' data and in its destructor. It is
 * loaded by malloc-dlopen, and preloaded before and after libmesh.so.
 */
#include <pthread.h>

#include "check.h"

static char *early;
static pthread_key_t key;

void *loaded_alloc(size_t size);

__attribute__((constructor)) static void loaded(void)
{
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
