/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Transfer cache: what thread caches have given back of one class and not asked for again
 * yet, a stack of addresses. A batch goes in and out by being copied, nobody looks at spans
 * and bitmaps. Its slots count as in use. Idea and name are tcmalloc's.
 *
 * That pays where batches are wanted again soon: threads free what others allocate, or a
 * program allocates and frees some thousand objects by turns. Where much more comes back than
 * it holds it is no use, and as neighbours end up in different places, later returns take
 * longer. So it is closed at first, and counts what it would do if it were open; it is open
 * while it serves enough of what it has to turn away.
 *
 * Its slots keep their spans alive, perhaps a span each. So it takes none while the spans of
 * the class are less than half full, and is emptied step by step when more comes then.
 *
 * For central.c only, under the lock of the class.
 */
#ifndef MESH_TRANSFER_H
#define MESH_TRANSFER_H

#include <stdbool.h>
#include <string.h>

#include "os.h"
#include "sizeclass.h"

/* What one may hold: bytes, and slots. */
#define TRANSFER_BYTES		(256u << 10)
#define TRANSFER_SLOTS		4096u

/* A slot that is served makes up for so many that are turned away. */
#define TRANSFER_WORTH		2

/**
 * struct transfer - transfer cache of one class
 * @slots: the stack; NULL until it is opened for the first time
 * @max: slots that it may hold
 * @nr: slots that it holds
 * @idle: fewest that it has held since somebody looked
 * @would: slots that it would hold if it had been open since then
 * @score: slots served times TRANSFER_WORTH less those turned away, as far as that
 *	is within some times @max of 0
 * @open: it takes slots
 */
struct transfer {
	void **slots;
	uint32_t max;
	uint32_t nr;
	uint32_t idle;
	uint32_t would;
	int32_t score;
	bool open;
};

static inline void transfer_init(struct transfer *t, const struct sizeclass *sc)
{
	t->max = (uint32_t)min_size(TRANSFER_BYTES / sc->size, TRANSFER_SLOTS);
}

/* Who has to decide before taking the lock reads these two without it. */
static inline void transfer_set_nr(struct transfer *t, unsigned int nr)
{
	__atomic_store_n(&t->nr, nr, __ATOMIC_RELAXED);
}

static inline void transfer_set_open(struct transfer *t, bool open)
{
	__atomic_store_n(&t->open, open, __ATOMIC_RELAXED);
}

/* Without memory for the stack it stays closed, and that is not tried again soon. */
static inline void transfer_open(struct transfer *t)
{
	if (!t->slots)
		t->slots = os_map(round_up(t->max * sizeof(void *), PAGE_SIZE));
	transfer_set_open(t, t->slots != NULL);
	if (!t->slots)
		t->score = 0;
}

static inline void transfer_served(struct transfer *t, unsigned int nr)
{
	int32_t most = (int32_t)(2 * t->max);

	t->score += (int32_t)nr * TRANSFER_WORTH;
	if (t->score > most)
		t->score = most;
	if (unlikely(!t->open && t->score > most / 2))
		transfer_open(t);
}

static inline void transfer_turned_away(struct transfer *t, unsigned int nr)
{
	int32_t least = -(int32_t)(2 * t->max);

	t->score -= (int32_t)nr;
	if (t->score < least)
		t->score = least;
	if (t->score < 0)
		transfer_set_open(t, false);
}

/**
 * transfer_get() - take slots
 * @t: the cache
 * @out: receives the addresses, those that came last at the end
 * @nr: most to take
 *
 * Return: their number.
 */
static inline unsigned int transfer_get(struct transfer *t, void **out, unsigned int nr)
{
	unsigned int n = (unsigned int)min_size(nr, t->nr);
	unsigned int could = (unsigned int)min_size(nr, t->would);

	t->would -= could;
	transfer_served(t, could);
	if (!n)
		return 0;
	transfer_set_nr(t, t->nr - n);
	if (t->nr < t->idle)
		t->idle = t->nr;
	memcpy(out, t->slots + t->nr, n * sizeof(*out));
	return n;
}

/* Would it take @nr slots? Without the lock a guess. */
static inline bool transfer_has_room(const struct transfer *t, unsigned int nr)
{
	return __atomic_load_n(&t->open, __ATOMIC_RELAXED) &&
	       __atomic_load_n(&t->nr, __ATOMIC_RELAXED) + nr <= t->max;
}

/**
 * transfer_put() - keep slots
 * @t: the cache
 * @ptrs: their addresses
 * @nr: their number
 * @dense: the spans of the class are at least half full
 *
 * Return: false if none was taken.
 */
static inline bool transfer_put(struct transfer *t, void *const *ptrs, unsigned int nr,
				bool dense)
{
	if (t->would + nr <= t->max)
		t->would += nr;
	else
		transfer_turned_away(t, nr);
	if (!dense || !transfer_has_room(t, nr))
		return false;
	memcpy(t->slots + t->nr, ptrs, nr * sizeof(*ptrs));
	transfer_set_nr(t, t->nr + nr);
	return true;
}

/* Is what it has to go, as more comes that it does not take? */
static inline bool transfer_must_shrink(const struct transfer *t, bool dense)
{
	return t->nr && (!dense || !t->open);
}

/**
 * transfer_take_idle() - take slots that were not wanted since the last look
 * @t: the cache
 * @out: receives the addresses
 * @nr: most to take
 * @all: take others, too
 *
 * Return: their number; 0 when there are no more, and that was a look.
 */
static inline unsigned int transfer_take_idle(struct transfer *t, void **out, unsigned int nr,
					      bool all)
{
	unsigned int n = (unsigned int)min_size(nr, all ? t->nr : t->idle);

	transfer_set_nr(t, t->nr - n);
	t->idle = n ? t->idle - (uint32_t)min_size(n, t->idle) : t->nr;
	t->would = t->nr;
	if (n)
		memcpy(out, t->slots + t->nr, n * sizeof(*out));
	return n;
}

#endif /* MESH_TRANSFER_H */
