// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * own-maps: a program with nearly as many mappings as vm.max_map_count allows.
 *
 *	own-maps PERCENT
 *
 * It makes PERCENT of the mappings that it may have, then a heap full of holes, has that
 * merged, and makes another tenth of the mappings, as a program may that does not know of
 * the library. Nothing of that may fail, nor an allocation, and every byte must be right.
 * Mappings that merging has taken are given back with the objects. Prints how many there
 * were.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "heap.h"

#define OBJECTS	200000

static long limit(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	long n = 0;

	if (!f || fscanf(f, "%ld", &n) != 1)
		die("no vm.max_map_count");
	fclose(f);
	return n;
}

/* Protect every other page of a mapping: two mappings for each. */
static void make_mappings(long n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), len = (size_t)n * page;
	char *p = map_or_die(len), *at;

	for (at = p; at + page < p + len; at += 2 * page) {
		if (mprotect(at, page, PROT_NONE))
			die("mprotect with %ld mappings: %s", mappings(), strerror(errno));
	}
}

static void check(const struct heap *heap)
{
	size_t wrong = heap_wrong(heap, 0);

	if (wrong)
		die("%zu objects wrong", wrong);
}

int main(int argc, char **argv)
{
	long most = limit(), before, merged, freed;
	struct heap heap;

	if (argc != 2)
		die("usage: own-maps PERCENT");
	make_mappings(most / 100 * atol(argv[1]));
	before = mappings();
	heap_make(&heap, OBJECTS, 80, 1);
	malloc_trim(0);
	check(&heap);
	merged = mappings();
	make_mappings(most / 10);
	check(&heap);
	heap_drop(&heap);
	malloc_trim(0);
	freed = mappings() - most / 10;
	printf("own-maps: %ld mappings, %ld with the heap merged, %ld with the heap freed\n",
	       before, merged, freed);
	return freed > before + 100;
}
