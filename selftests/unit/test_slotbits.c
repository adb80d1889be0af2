/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Slots as bits: taking and clearing many at a time is like doing it one by one. */
#include <string.h>

#include "slotbits.h"
#include "unit.h"

#define MOST	300

static uint64_t state = 7;

static unsigned int below(unsigned int n)
{
	return unit_random(&state) % n;
}

static void fill(struct span *s, const struct sizeclass *sc)
{
	memset(s->own, 0, sizeof(s->own));
	for (unsigned int i = 0; i < sc->slots; i++)
		s->own[i / 64] |= 1ULL << i % 64;
}

/* One by one, until one is not the start of a slot in use. */
static unsigned int clear_one_by_one(struct span *s, const struct sizeclass *sc,
				     void *const *ptrs, unsigned int nr)
{
	unsigned int n;

	for (n = 0; n < nr; n++) {
		size_t offset = (size_t)((char *)ptrs[n] - span_addr(s)), slot;

		slot = offset / sc->size;
		if (offset % sc->size || slot >= sc->slots || !(s->own[slot / 64] >> slot % 64 & 1))
			break;
		s->own[slot / 64] ^= 1ULL << slot % 64;
	}
	return n;
}

static void check_same(const struct sizeclass *sc, const struct span *before, void *const *ptrs,
		       unsigned int nr)
{
	struct span a = *before, b = *before;

	CHECK_EQ(clear_slots(&a, sc, ptrs, nr), clear_one_by_one(&b, sc, ptrs, nr));
	CHECK(!memcmp(a.own, b.own, sizeof(a.own)));
}

/* Runs of all lengths, both ways, at random places; now and then something else. */
static unsigned int make_slots(const struct span *s, const struct sizeclass *sc, void **ptrs)
{
	unsigned int n = 0, nr = 1 + below(MOST);

	while (n < nr) {
		char *p = span_addr(s) + (size_t)below(sc->slots) * sc->size;
		ptrdiff_t step = (ptrdiff_t)sc->size * ((int)below(3) - 1);
		unsigned int len = 1 + below(2 * sc->slots);

		if (!below(16))
			p += below(sc->size) + (ptrdiff_t)(below(3) * PAGE_SIZE) -
			     (ptrdiff_t)PAGE_SIZE;
		for (; len && n < nr; len--, p += step)
			ptrs[n++] = p;
	}
	return nr;
}

TEST(clearing_many_is_clearing_each)
{
	struct span s = { .page = 64 };
	void *ptrs[MOST];

	region.base = (uintptr_t)1 << 40;
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		for (unsigned int round = 0; round < 2000; round++) {
			fill(&s, &sizeclasses[cls]);
			for (unsigned int i = below(4); i; i--)
				s.own[below(SPAN_WORDS)] &= ~(1ULL << below(64));
			check_same(&sizeclasses[cls], &s, ptrs,
				   make_slots(&s, &sizeclasses[cls], ptrs));
		}
}

TEST(taking_takes_what_is_free_from_the_top)
{
	const struct sizeclass *sc = &sizeclasses[1];
	struct span s = { .page = 64 };
	void *out[64];

	region.base = (uintptr_t)1 << 40;
	for (unsigned int round = 0; round < 10000; round++) {
		uint64_t free = (uint64_t)below(1u << 31) << 33 | below(1u << 31);
		unsigned int word = below(SPAN_WORDS), nr = below(65), n, bit = 64;

		memset(s.own, 0, sizeof(s.own));
		n = take_word(&s, sc, word, free, out, nr);
		CHECK_EQ(n, min_size(nr, (unsigned int)__builtin_popcountll(free)));
		for (unsigned int i = 0; i < n; i++) {
			do
				bit--;
			while (!(free >> bit & 1));
			CHECK(out[i] == span_addr(&s) + (word * 64 + bit) * (size_t)sc->size);
			CHECK(s.own[word] >> bit & 1);
		}
		CHECK_EQ(__builtin_popcountll(s.own[word]), (int)n);
	}
}

UNIT_MAIN(UNIT(clearing_many_is_clearing_each), UNIT(taking_takes_what_is_free_from_the_top))
