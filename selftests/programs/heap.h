/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * A heap full of holes whose every byte is known: many small objects, some of them
 * freed again at random. The table of the objects is outside malloc.
 */
#ifndef SELFTESTS_PROGRAMS_HEAP_H
#define SELFTESTS_PROGRAMS_HEAP_H

#include <stddef.h>
#include <stdint.h>

/* Size of the largest object. */
#define HEAP_OBJECT_MAX	256

/**
 * struct heap - objects of random sizes
 * @objects: entries in the table
 * @object: the table; NULL for an object that was freed
 * @seed: sizes and contents follow from it and the index
 */
struct heap {
	size_t objects;
	unsigned char **object;
	uint64_t seed;
};

/**
 * heap_make() - allocate objects of 16 to 256 bytes and free most of them
 * @h: the heap
 * @objects: how many to allocate
 * @free_percent: how many of 100 to free
 * @seed: which random sizes, contents and victims
 */
void heap_make(struct heap *h, size_t objects, unsigned int free_percent, uint64_t seed);

/**
 * heap_rewrite() - give one live object other contents
 * @h: the heap
 * @i: index of the object; nothing happens if it was freed
 * @generation: part of the new contents; 0 is what heap_make() wrote
 */
void heap_rewrite(struct heap *h, size_t i, uint64_t generation);

/**
 * heap_contents() - what an object is to have
 * @h: the heap
 * @i: index of the object
 * @generation: of its contents
 * @to: receives them, at most HEAP_OBJECT_MAX bytes
 *
 * Return: size of the object.
 */
size_t heap_contents(const struct heap *h, size_t i, uint64_t generation, unsigned char *to);

/**
 * heap_wrong() - count the live objects that have not the contents they should
 * @h: the heap
 * @generation: of all objects
 *
 * Return: how many.
 */
size_t heap_wrong(const struct heap *h, uint64_t generation);

/**
 * heap_drop() - free all objects
 * @h: the heap
 */
void heap_drop(struct heap *h);

/**
 * heap_sparse() - objects in pages that are worth merging: of many, one in 32 stays
 * @kept: receives those that stay, which are zero
 * @nr: how many
 * @size: bytes in each
 */
void heap_sparse(void **kept, unsigned int nr, size_t size);

#endif /* SELFTESTS_PROGRAMS_HEAP_H */
