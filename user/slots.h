/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * slots.h: which pages of the arena show which pages of a file.
 *
 * A slot is a place in one of the backend's files, as long as a span. It is named by
 * the page of the arena that has the same offset there, so a span whose own slot is
 * free takes that, and spans that are neighbours become neighbours in the file. A
 * page that shows no slot is ordinary memory.
 *
 *	free --claim--> in use, as long as somebody shows it --> unused --clear--> free
 *
 * What is unused still has memory in its file, which whoever has the file gives back.
 *
 * Threads: any; one lock, LOCK_SLOTS, held for table updates only. Claims, releases
 * and clears are the daemon's. Pages are indices in the arena, as from region_page().
 */
#ifndef MESH_SLOTS_H
#define MESH_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOT_NONE	UINT32_MAX

/* Files are numbered from 1. */
#define SLOT_FILES	32

/**
 * slots_prepare() - make sure that the table has entries
 * @page: first page
 * @nr: pages
 *
 * Return: 0 or -ENOMEM.
 */
int slots_prepare(uint32_t page, unsigned int nr);

/**
 * slots_shown() - the slot that the span at @page shows, or SLOT_NONE
 */
uint32_t slots_shown(uint32_t page);

/**
 * slots_file() - the file that a slot in use is in
 */
unsigned int slots_file(uint32_t slot);

/**
 * slots_claim() - take a slot that nobody uses in any file
 * @slot: its name; prepared
 * @nr: pages
 * @file: where it will be
 *
 * Return: whether it was free.
 */
bool slots_claim(uint32_t slot, unsigned int nr, unsigned int file);

/**
 * slots_release() - if nobody shows what was claimed, nobody is going to
 * @slot: its name
 * @clean: it has not been written to, either, so it is free
 */
void slots_release(uint32_t slot, bool clean);

/**
 * slots_show() - the span at @page shows @slot from now on, and not what it did
 */
void slots_show(uint32_t page, uint32_t slot);

/**
 * slots_hide() - the span at @page is ordinary memory again
 */
void slots_hide(uint32_t page);

/**
 * slots_swap_sum() - remember what was seen at the span at @page
 * @page: first page of a span that shows a slot
 * @sum: of its contents; 0 for nothing
 *
 * Return: what was remembered before.
 */
uint32_t slots_swap_sum(uint32_t page, uint32_t sum);

/**
 * slots_unused() - the next slot of @file that nobody shows any more
 * @file: number of the file
 * @from: where to look first; moved behind what was looked at, a bounded part of
 *	the arena
 * @nr: set to its length in pages
 *
 * Return: the slot, or SLOT_NONE.
 */
uint32_t slots_unused(unsigned int file, uint32_t *from, unsigned int *nr);

/**
 * slots_clear() - an unused slot has no memory any more
 */
void slots_clear(uint32_t slot);

/* Slots of @file that are in use, and that are unused. */
size_t slots_nr_used(unsigned int file);
size_t slots_nr_unused(unsigned int file);

void slots_fork_prepare(void);
void slots_fork_done(void);

#endif /* MESH_SLOTS_H */
