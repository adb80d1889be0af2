/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Size class tables. The classes are constants, checked by the compiler; the
 * table from size to class is filled in once.
 */
#include "sizeclass.h"
#include "span.h"

/* By Newton's method: each step doubles the bits that are right, 5 at first. */
#define FIRST(odd)		(3 * (uint64_t)(odd) ^ 2)
#define STEP(odd, x)		((x) * (2 - (uint64_t)(odd) * (x)))
#define INVERSE(odd)		STEP(odd, STEP(odd, STEP(odd, STEP(odd, FIRST(odd)))))
#define SHIFT(size)		__builtin_ctz(size)

const struct sizeclass sizeclasses[NR_CLASSES] = {
#define CLASS(size, pages, slots) \
	[CLASS_##size] = { size, slots, pages, SHIFT(size), INVERSE((size) >> SHIFT(size)) },
#define SMALL	CLASS
#define MEDIUM	CLASS
#include "sizeclass.def"
#undef SMALL
#undef MEDIUM
#undef CLASS
};

#define SMALL(size, pages, slots) \
	_Static_assert((size) % 16 == 0, "slots are aligned to 16"); \
	_Static_assert((pages) <= 8, "the kernel merges spans of at most 8 pages"); \
	_Static_assert((slots) <= SPAN_MAX_SLOTS, "own[] has a bit for each slot"); \
	_Static_assert((slots) * (size) <= (pages) * PAGE_SIZE, "slots fit"); \
	_Static_assert(((pages) * PAGE_SIZE - (slots) * (size)) * 63 <= \
		       (pages) * PAGE_SIZE, "a span wastes at most 1/63");
#define MEDIUM(size, pages, slots) \
	_Static_assert((size) % 512 == 0, "medium classes come in steps of 512"); \
	_Static_assert((slots) * (size) == (pages) * PAGE_SIZE, "nothing is wasted");
#include "sizeclass.def"
#undef SMALL
#undef MEDIUM

MESH_EARLY uint8_t sizeclass_table[SIZE_TABLE_LEN];

/* The smallest class for @size, from @cls on. */
static unsigned int smallest_class(size_t size, unsigned int cls)
{
	while (sizeclasses[cls].size < size)
		cls++;
	return cls;
}

/**
 * sizeclass_init() - fill in the table from size to class
 */
void sizeclass_init(void)
{
	unsigned int cls = 1;

	for (size_t i = 0; i < SIZE_TABLE_FINE; i++) {
		cls = smallest_class(i * 16, cls);
		sizeclass_table[i] = (uint8_t)cls;
	}
	cls = 1;
	for (size_t i = 0; i < SLOT_MAX / 512; i++) {
		cls = smallest_class((i + 1) * 512, cls);
		sizeclass_table[SIZE_TABLE_FINE + i] = (uint8_t)cls;
	}
}

unsigned int sizeclass_of_aligned(size_t size, size_t align)
{
	unsigned int cls;

	if (size > SLOT_MAX)
		return CLASS_NONE;
	for (cls = sizeclass_of(size); cls < NR_CLASSES; cls++)
		if ((sizeclasses[cls].size & (align - 1)) == 0)
			return cls;
	return CLASS_NONE;
}
