/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * A library that malloc-foreign opens: its constructor, which has the dynamic linker's lock, waits
 * for a thread that frees an object of the other malloc.
 */
#include <pthread.h>

#include "check.h"
#include "other.h"

static void *free_other(void *p)
{
	free(p);
	return NULL;
}

__attribute__((constructor)) static void loaded(void)
{
	pthread_t t;

	CHECK(pthread_create(&t, NULL, free_other, other_alloc(10)) == 0);
	CHECK(pthread_join(t, NULL) == 0);
}
