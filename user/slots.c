/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The table of slots: twelve bytes for each page of the arena, in chunks that are
 * mapped when something in them is merged for the first time. An entry speaks of a
 * page in two roles: as an address that shows a slot, and as a slot.
 */
#include <errno.h>

#include "lock.h"
#include "os.h"
#include "region.h"
#include "slots.h"

/**
 * struct entry - one page
 * @shows: 1 + the slot that the span which begins here shows, or 0
 * @shown_by: as the first page of a slot: spans that show it
 * @file: as a page of a slot: the file, or 0 when the slot is free
 * @nr: as the first page of a slot: its pages
 * @sum: of what was last seen at a span that has been written to since it was merged
 */
struct entry {
	uint32_t shows;
	uint16_t shown_by;
	uint8_t file;
	uint8_t nr;
	uint32_t sum;
};

#define CHUNK_PAGES	16384u
#define NR_CHUNKS	(AREA_PAGES / CHUNK_PAGES)

static struct lock lock = LOCK_INITIALIZER(LOCK_SLOTS);
static struct entry *_Atomic chunks[NR_CHUNKS];
static size_t nr_used[SLOT_FILES];
static size_t nr_unused[SLOT_FILES];

static struct entry *chunk_of(uint32_t page)
{
	return atomic_load_explicit(&chunks[page / CHUNK_PAGES], memory_order_acquire);
}

static struct entry *entry_of(uint32_t page)
{
	return &chunk_of(page)[page % CHUNK_PAGES];
}

/* Only the daemon adds chunks. */
static int add_chunk(uint32_t page)
{
	struct entry *chunk;

	if (chunk_of(page))
		return 0;
	chunk = os_map(CHUNK_PAGES * sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	atomic_store_explicit(&chunks[page / CHUNK_PAGES], chunk, memory_order_release);
	return 0;
}

int slots_prepare(uint32_t page, unsigned int nr)
{
	int ret = add_chunk(page);

	return ret ? ret : add_chunk(page + nr - 1);
}

/* Read on every death of a span, so without the lock where there is no table. */
uint32_t slots_shown(uint32_t page)
{
	uint32_t shows;

	if (!chunk_of(page))
		return SLOT_NONE;
	lock_acquire(&lock);
	shows = entry_of(page)->shows;
	lock_release(&lock);
	return shows ? shows - 1 : SLOT_NONE;
}

unsigned int slots_file(uint32_t slot)
{
	unsigned int file;

	lock_acquire(&lock);
	file = entry_of(slot)->file;
	lock_release(&lock);
	return file;
}

static bool is_free(uint32_t slot, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (entry_of(slot + i)->file)
			return false;
	return true;
}

bool slots_claim(uint32_t slot, unsigned int nr, unsigned int file)
{
	bool claimed;

	lock_acquire(&lock);
	claimed = is_free(slot, nr);
	if (claimed) {
		for (unsigned int i = 0; i < nr; i++)
			entry_of(slot + i)->file = (uint8_t)file;
		entry_of(slot)->shown_by = 0;
		entry_of(slot)->nr = (uint8_t)nr;
		nr_used[file]++;
	}
	lock_release(&lock);
	return claimed;
}

static void make_unused(const struct entry *e)
{
	nr_used[e->file]--;
	nr_unused[e->file]++;
}

static void free_slot(struct entry *e, uint32_t slot)
{
	unsigned int i, nr = e->nr;

	e->nr = 0;
	for (i = 0; i < nr; i++)
		entry_of(slot + i)->file = 0;
}

void slots_release(uint32_t slot, bool clean)
{
	struct entry *e = entry_of(slot);

	lock_acquire(&lock);
	if (!e->shown_by && clean) {
		nr_used[e->file]--;
		free_slot(e, slot);
	} else if (!e->shown_by) {
		make_unused(e);
	}
	lock_release(&lock);
}

static void hide_locked(uint32_t page)
{
	struct entry *e = entry_of(page), *slot;

	if (!e->shows)
		return;
	slot = entry_of(e->shows - 1);
	e->shows = 0;
	if (!--slot->shown_by)
		make_unused(slot);
}

void slots_show(uint32_t page, uint32_t slot)
{
	lock_acquire(&lock);
	hide_locked(page);
	entry_of(page)->shows = slot + 1;
	entry_of(page)->sum = 0;
	entry_of(slot)->shown_by++;
	lock_release(&lock);
}

void slots_hide(uint32_t page)
{
	lock_acquire(&lock);
	hide_locked(page);
	lock_release(&lock);
}

uint32_t slots_swap_sum(uint32_t page, uint32_t sum)
{
	uint32_t old;

	lock_acquire(&lock);
	old = entry_of(page)->sum;
	entry_of(page)->sum = sum;
	lock_release(&lock);
	return old;
}

static bool is_unused(const struct entry *e, unsigned int file)
{
	return e->nr && e->file == file && !e->shown_by;
}

/* A slot that is claimed and not shown yet looks the same, but only to the daemon. */
uint32_t slots_unused(unsigned int file, uint32_t *from, unsigned int *nr)
{
	uint32_t end = (*from / CHUNK_PAGES + 1) * CHUNK_PAGES, page = *from;

	*from = end;
	if (!chunk_of(page))
		return SLOT_NONE;
	lock_acquire(&lock);
	while (page < end && !is_unused(entry_of(page), file))
		page++;
	if (page < end) {
		*nr = entry_of(page)->nr;
		*from = page + 1;
	}
	lock_release(&lock);
	return page < end ? page : SLOT_NONE;
}

void slots_clear(uint32_t slot)
{
	struct entry *e = entry_of(slot);

	lock_acquire(&lock);
	nr_unused[e->file]--;
	free_slot(e, slot);
	lock_release(&lock);
}

size_t slots_nr_used(unsigned int file)
{
	size_t n;

	lock_acquire(&lock);
	n = nr_used[file];
	lock_release(&lock);
	return n;
}

size_t slots_nr_unused(unsigned int file)
{
	size_t n;

	lock_acquire(&lock);
	n = nr_unused[file];
	lock_release(&lock);
	return n;
}

void slots_fork_prepare(void)
{
	lock_fork_acquire(&lock);
}

void slots_fork_done(void)
{
	lock_fork_release(&lock);
}
