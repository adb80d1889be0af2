/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Size classes (sizeclass.def) and the table from request size to class. Class 0
 * means "not in a slot". Constant after sizeclass_init().
 */
#ifndef MESH_SIZECLASS_H
#define MESH_SIZECLASS_H

#include <stdbool.h>

#include "compiler.h"

enum {
	CLASS_NONE,
#define SMALL(size, pages, slots)	CLASS_##size,
#define MEDIUM(size, pages, slots)	CLASS_##size,
#include "sizeclass.def"
#undef SMALL
#undef MEDIUM
	NR_CLASSES
};

/* Classes from 1 to NR_SMALL_CLASSES are small: they live in the arena. */
#define NR_SMALL_CLASSES	((unsigned int)CLASS_4096 - 1)

/* The largest request that is served from a slot. */
#define SLOT_MAX		((size_t)32768)

/* Below SIZE_FINE sizes map to classes in steps of 16, above in steps of 512. */
#define SIZE_FINE		((size_t)4096)
#define SIZE_TABLE_FINE		(SIZE_FINE / 16 + 1)
#define SIZE_TABLE_LEN		(SIZE_TABLE_FINE + SLOT_MAX / 512)

/**
 * struct sizeclass - one size class
 * @size: bytes in a slot
 * @slots: slots in a span
 * @pages: pages in a span
 * @shift: how often 2 divides the size
 * @inverse: of what is left of the size then, modulo 2^64
 */
struct sizeclass {
	uint32_t size;
	uint16_t slots;
	uint8_t pages;
	uint8_t shift;
	uint64_t inverse;
};

extern const struct sizeclass sizeclasses[NR_CLASSES];
extern uint8_t sizeclass_table[SIZE_TABLE_LEN];

void sizeclass_init(void);

/**
 * sizeclass_of() - class that serves a request
 * @size: bytes, at most SLOT_MAX
 *
 * Return: the class, or CLASS_NONE before sizeclass_init().
 */
static inline unsigned int sizeclass_of(size_t size)
{
	if (likely(size <= SIZE_FINE))
		return sizeclass_table[(size + 15) >> 4];
	return sizeclass_table[SIZE_TABLE_FINE + ((size - 1) >> 9)];
}

/**
 * slot_at() - divide by the size of a class, exactly
 * @sc: class
 * @offset: bytes into a span
 *
 * A multiple of an odd number times that number's inverse is the quotient, and so much for
 * whatever else: the product is different for each factor, and the small ones are taken. To
 * rotate instead of to shift adds to that the remainder of the division by a power of two
 * (Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 1994).
 *
 * Return: the slot that starts there; if none does, a number that no slot has.
 */
static inline size_t slot_at(const struct sizeclass *sc, size_t offset)
{
	uint64_t product = offset * sc->inverse;

	return product >> sc->shift | product << (-sc->shift & 63);
}

/**
 * sizeclass_of_aligned() - class whose slots are aligned
 * @size: bytes
 * @align: power of two, at most PAGE_SIZE
 *
 * Return: the class, or CLASS_NONE when no slot does.
 */
unsigned int sizeclass_of_aligned(size_t size, size_t align);

static inline bool sizeclass_is_small(unsigned int cls)
{
	return cls - 1 < NR_SMALL_CLASSES;
}

#endif /* MESH_SIZECLASS_H */
