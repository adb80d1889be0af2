/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * A program that is linked with another malloc, for what only that can do, as Redis is with
 * jemalloc. malloc is ours, and the other's objects are still the other's.
 */
#include <malloc.h>

#include "check.h"
#include "other.h"

int main(void)
{
	char *p = other_alloc(100), *q;
	size_t size;

	CHECK(p);
	fill(p, 100, 1);
	CHECK(malloc_usable_size(p) == 256);
	q = realloc(p, 200);
	CHECK(q == p && other_reallocs == 1);
	CHECK(is_filled(p, 100, 1));
	CHECK(other_frees == 0);
	free(p);
	CHECK(other_frees == 1);
	/* ours are never passed on */
	for (size = 1; size < 100 << 20; size *= 3) {
		p = malloc(size);
		CHECK(p && malloc_usable_size(p) >= size);
		p = realloc(p, size * 2);
		CHECK(p && malloc_usable_size(p) >= size * 2);
		free(p);
	}
	CHECK(other_frees == 1 && other_reallocs == 1);
	return 0;
}
