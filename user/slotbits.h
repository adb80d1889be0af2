/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Slots of a span, as addresses and as bits of own[]: taking and clearing many at a time.
 *
 * For central.c only, where the time goes. Locks are the caller's business.
 */
#ifndef MESH_SLOTBITS_H
#define MESH_SLOTBITS_H

#include <stdbool.h>

#include "sizeclass.h"
#include "span.h"

static inline unsigned int slot_words(const struct sizeclass *sc)
{
	return (sc->slots + 63u) / 64;
}

/* The bits [@low, @low + @nr), @nr at least 1. */
static inline uint64_t bit_range(unsigned int low, unsigned int nr)
{
	return ~0ULL >> (64 - nr) << low;
}

/* How many bits are set in a row from bit @top down. */
static inline unsigned int set_below(uint64_t bits, unsigned int top)
{
	uint64_t clear = ~(bits << (63 - top));

	return clear ? (unsigned int)__builtin_clzll(clear) : 64;
}

/* Slots of word @word that nobody in the group uses. */
static inline uint64_t free_slots(const uint64_t live[SPAN_WORDS], unsigned int word,
				  unsigned int slots)
{
	unsigned int first = word * 64;

	if (slots - first >= 64)
		return ~live[word];
	return ~live[word] & ((1ULL << (slots - first)) - 1);
}

/* @nr slots from @p on downwards. */
static inline void put_slots(void **out, char *p, unsigned int nr, size_t size)
{
#pragma GCC unroll 4
	for (unsigned int i = 0; i < nr; i++, p -= size)
		out[i] = p;
}

/*
 * Take up to @nr of the slots @free of word @word, from the highest address down, in runs:
 * the slots of a fresh span are one. Returns their number.
 */
static inline unsigned int take_word(struct span *s, const struct sizeclass *sc,
				     unsigned int word, uint64_t free, void **out,
				     unsigned int nr)
{
	size_t size = sc->size;
	char *base = span_addr(s) + word * 64 * size;
	uint64_t left = free;
	unsigned int n = 0;

	while (left && n < nr) {
		unsigned int top = 63 - (unsigned int)__builtin_clzll(left);
		unsigned int run = (unsigned int)min_size(set_below(left, top), nr - n);

		left ^= bit_range(top - run + 1, run);
		put_slots(out + n, base + top * size, run, size);
		n += run;
	}
	s->own[word] |= free ^ left;
	return n;
}

/* Is @p a slot in use? */
static inline bool slot_in_use(const struct span *s, const struct sizeclass *sc, const void *p)
{
	size_t slot = slot_at(sc, (size_t)((const char *)p - span_addr(s)));

	return slot < sc->slots && s->own[slot / 64] >> slot % 64 & 1;
}

/*
 * Clear the bits in @own of the first of @nr slots, and of those that follow it, up to the first
 * that is not among the 64 from @start on or not in use. Returns their number. The word is kept
 * in a register: reading back what was just written would take longer than all the rest.
 */
static inline unsigned int clear_word(uint64_t *own, const struct sizeclass *sc,
				      const char *start, void *const *ptrs, unsigned int nr)
{
	uint64_t bits = *own;
	unsigned int n;

	for (n = 0; n < nr; n++) {
		size_t slot = slot_at(sc, (size_t)((const char *)ptrs[n] - start));

		if (slot >= 64 || !(bits >> slot & 1))
			break;
		bits ^= 1ULL << slot;
	}
	*own = bits;
	return n;
}

/* As clear_word(), up to the first that is in another span or not in use. */
static inline unsigned int clear_any(struct span *s, const struct sizeclass *sc,
				     void *const *ptrs, unsigned int nr)
{
	const char *start = span_addr(s);
	size_t slot, word, len = (size_t)64 * sc->size;
	unsigned int n = 0, some;

	while (n < nr) {
		slot = slot_at(sc, (size_t)((const char *)ptrs[n] - start));
		if (slot >= sc->slots)
			break;
		word = slot / 64;
		some = clear_word(&s->own[word], sc, start + word * len, ptrs + n, nr - n);
		if (!some)
			break;
		n += some;
	}
	return n;
}

/* Do the first three of @nr slots follow each other in memory, upwards or downwards? */
static inline bool in_a_row(const struct sizeclass *sc, void *const *ptrs, unsigned int nr)
{
	ptrdiff_t step, size = (ptrdiff_t)sc->size;

	if (nr < 3)
		return false;
	step = (char *)ptrs[1] - (char *)ptrs[0];
	return (step == size || step == -size) &&
	       (char *)ptrs[2] - (char *)ptrs[1] == step;
}

/*
 * As clear_any() for slots in a row, as far as the row goes in one word. Returns 0 and does
 * nothing unless all of them are in use.
 */
static inline unsigned int clear_row(struct span *s, const struct sizeclass *sc,
				     void *const *ptrs, unsigned int nr)
{
	char *p = ptrs[1];
	ptrdiff_t step = p - (char *)ptrs[0];
	unsigned int low;
	size_t slot, n, most;
	uint64_t mask;

	slot = slot_at(sc, (size_t)((char *)ptrs[0] - span_addr(s)));
	if (slot >= sc->slots)
		return 0;
	low = slot % 64;
	most = min_size(nr, step > 0 ? 64 - low : low + 1);
	for (n = 1; n < most && ptrs[n] == p; n++)
		p += step;
	mask = bit_range(step > 0 ? low : low + 1 - (unsigned int)n, (unsigned int)n);
	if (unlikely((s->own[slot / 64] & mask) != mask))
		return 0;
	s->own[slot / 64] ^= mask;
	return (unsigned int)n;
}

/* As clear_any(), faster where slots are in a row. */
static inline unsigned int clear_slots(struct span *s, const struct sizeclass *sc,
				       void *const *ptrs, unsigned int nr)
{
	unsigned int n = 0, some;

	while (in_a_row(sc, ptrs + n, nr - n)) {
		some = clear_row(s, sc, ptrs + n, nr - n);
		if (!some)
			break;
		n += some;
	}
	return n + clear_any(s, sc, ptrs + n, nr - n);
}

#endif /* MESH_SLOTBITS_H */
