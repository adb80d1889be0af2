/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Another malloc, with a function of its own besides: what malloc-foreign is linked with. It has
 * room for a few objects of up to 256 bytes, and says how often one of its own was freed.
 */
#include <stddef.h>

#include "other.h"

#define SLOTS	64

static struct {
	_Alignas(16) char data[256];
} slots[SLOTS];

static unsigned int nr_used;
unsigned int other_frees;
unsigned int other_reallocs;

void *malloc(size_t size);
void free(void *p);
void *realloc(void *p, size_t size);
size_t malloc_usable_size(void *p);

void *other_alloc(size_t size)
{
	return size <= sizeof(slots[0]) && nr_used < SLOTS ? &slots[nr_used++] : NULL;
}

void *malloc(size_t size)
{
	return other_alloc(size);
}

void free(void *p)
{
	other_frees += p != NULL;
}

void *realloc(void *p, size_t size)
{
	if (!p)
		return other_alloc(size);
	other_reallocs++;
	return size <= sizeof(slots[0]) ? p : NULL;
}

size_t malloc_usable_size(void *p)
{
	return p ? sizeof(slots[0]) : 0;
}
