// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * A heap full of holes, see heap.h. No locks: the caller sees to it that an object is
 * touched by one thread at a time.
 */
#include "heap.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"

static size_t size_of(const struct heap *h, size_t i)
{
	return 16 + mix(h->seed + i) % 241;
}

static uint64_t content_of(const struct heap *h, size_t i, uint64_t generation)
{
	return mix(h->seed ^ mix(i)) + generation;
}

void heap_make(struct heap *h, size_t objects, unsigned int free_percent, uint64_t seed)
{
	size_t i;

	h->objects = objects;
	h->seed = seed;
	h->object = map_or_die(objects * sizeof(*h->object));
	for (i = 0; i < objects; i++) {
		h->object[i] = malloc(size_of(h, i));
		if (!h->object[i])
			die("out of memory");
		heap_rewrite(h, i, 0);
	}
	for (i = 0; i < objects; i++) {
		if (mix(~seed + i) % 100 >= free_percent)
			continue;
		free(h->object[i]);
		h->object[i] = NULL;
	}
}

void heap_rewrite(struct heap *h, size_t i, uint64_t generation)
{
	if (h->object[i])
		payload_fill(h->object[i], size_of(h, i), content_of(h, i, generation));
}

size_t heap_contents(const struct heap *h, size_t i, uint64_t generation, unsigned char *to)
{
	payload_fill(to, size_of(h, i), content_of(h, i, generation));
	return size_of(h, i);
}

size_t heap_wrong(const struct heap *h, uint64_t generation)
{
	size_t i, wrong = 0;

	for (i = 0; i < h->objects; i++) {
		if (h->object[i] &&
		    !payload_ok(h->object[i], size_of(h, i), content_of(h, i, generation)))
			wrong++;
	}
	return wrong;
}

void heap_drop(struct heap *h)
{
	size_t i;

	for (i = 0; i < h->objects; i++)
		free(h->object[i]);
	munmap(h->object, h->objects * sizeof(*h->object));
}

void heap_sparse(void **kept, unsigned int nr, size_t size)
{
	enum { SPREAD = 32 };
	void **all = map_or_die(nr * SPREAD * sizeof(*all));
	unsigned int i;

	for (i = 0; i < nr * SPREAD; i++)
		all[i] = calloc(1, size);
	for (i = 0; i < nr * SPREAD; i++) {
		if (i % SPREAD == SPREAD / 2)
			kept[i / SPREAD] = all[i];
		else
			free(all[i]);
	}
}
