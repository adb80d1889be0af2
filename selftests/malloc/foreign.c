/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * foreign PLUGIN - a program that is linked with another malloc, for what only that can do, as
 * Redis is with jemalloc. malloc is ours, and the other's objects are still the other's.
 */
#include <dlfcn.h>
#include <malloc.h>

#include "check.h"
#include "other.h"

int main(int argc, char **argv)
{
	char *p, *q;
	size_t size;

	CHECK(argc == 2);
	CHECK(dlopen(argv[1], RTLD_NOW));
	CHECK(other_frees == 1);
	p = other_alloc(100);
	CHECK(p);
	fill(p, 100, 1);
	CHECK(malloc_usable_size(p) == 256);
	q = realloc(p, 200);
	CHECK(q == p && other_reallocs == 1);
	CHECK(is_filled(p, 100, 1));
	free(p);
	CHECK(other_frees == 2);
	/* ours are never passed on */
	for (size = 1; size < 100 << 20; size *= 3) {
		p = malloc(size);
		CHECK(p && malloc_usable_size(p) >= size);
		p = realloc(p, size * 2);
		CHECK(p && malloc_usable_size(p) >= size * 2);
		free(p);
	}
	CHECK(other_frees == 2 && other_reallocs == 1);
	return 0;
}
