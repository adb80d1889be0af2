/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Page heaps: who owns which pages. One for the arena (small objects, from the
 * backend, can be meshed), one for anonymous memory (everything larger up to
 * RUN_MAX_PAGES). Each keeps its free runs in bins by length, clean ones (known
 * to read as zero) apart from dirty ones, coalesced with neighbours of their
 * kind, and grows at its planned addresses chunk by chunk. Short runs that were freed
 * last are kept apart and whole: most spans have the length of those that died just now.
 *
 * Dirty runs are given back when they have not been used for a second (pace.c). They
 * are not kept beyond a part of the heap when other memory would be touched instead.
 *
 * One lock per heap. No system call but growth and shrinking is made with it held.
 */
#ifndef MESH_PAGEHEAP_H
#define MESH_PAGEHEAP_H

#include <stdbool.h>

#include "lock.h"
#include "span.h"

/* Longest run that a request is served from, 32 MiB; longer objects are mapped directly. */
#define RUN_MAX_PAGES	8192

/*
 * Bins 1..255 hold runs of exactly that many pages. Then there are four for each doubling,
 * and one for runs of RUN_MAX_PAGES and more.
 */
#define PAGEHEAP_EXACT	256
#define PAGEHEAP_BINS	(PAGEHEAP_EXACT + 5 * 4 + 1)

/* Lengths in pages that are kept whole, and how many pages of them. */
#define RECENT_LENGTHS	8
#define RECENT_PAGES	256

/**
 * struct pageheap_kind - free runs of one kind
 * @bins: by length in pages
 * @used: bit i is set when @bins[i] is not empty
 * @pages: sum of the lengths
 */
struct pageheap_kind {
	struct span_list bins[PAGEHEAP_BINS];
	uint64_t used[(PAGEHEAP_BINS + 63) / 64];
	size_t pages;
};

/**
 * struct pageheap_ops - where a heap's memory comes from
 * @map: map the first @len bytes at @addr; 0 or -errno
 * @grow: extend that mapping; 0 or -errno
 * @purge: make the pages zero and give them back; 0 or -errno
 * @merged: must the pages be purged before they are used anew? NULL: no
 * @may_skip: the mapping may have gaps, so it can grow past what is in its way
 * @may_shrink: its end may be unmapped, to grow anew
 */
struct pageheap_ops {
	int (*map)(void *addr, size_t len);
	int (*grow)(void *addr, size_t old_len, size_t new_len);
	int (*purge)(void *addr, size_t len);
	bool (*merged)(const void *addr);
	bool may_skip;
	bool may_shrink;
};

/**
 * struct pageheap - one area of the region and its free pages
 * @lock: protects everything below and the states of free runs
 * @ops: memory source
 * @end: the area's end in struct region, kept equal to @nr_pages
 * @first_page: index of the area's first page in the region
 * @max_pages: pages in the area's address plan
 * @dirty_share: dirty pages beyond in_use / dirty_share are not kept for long
 * @nr_pages: pages mapped; CLEAN + DIRTY + PURGING + LOST + in use
 * @table_pages: pages that have had a place in the tables of struct region, and keep it
 * @clean: free runs that read as zero
 * @dirty: free runs with old contents; @pages counts the recent ones as well
 * @recent: short dirty runs that were freed last, by length
 * @recent_pages: sum of their lengths
 * @purging: runs a system call is busy with
 * @lost: runs that could not be purged, or not yet
 * @purging_pages: sum of their lengths
 * @lost_pages: pages that are not purged and may show another span's data, or that
 *	were skipped because something else is mapped there
 * @purges_later: somebody calls pageheap_purge_lost() again and again
 * @purged_pages: pages given back since the start
 */
struct pageheap {
	struct lock lock;
	const struct pageheap_ops *ops;
	_Atomic uint32_t *end;
	uint32_t first_page;
	uint32_t max_pages;
	uint32_t dirty_share;
	size_t nr_pages;
	size_t table_pages;
	struct pageheap_kind clean;
	struct pageheap_kind dirty;
	struct span_list recent[RECENT_LENGTHS + 1];
	size_t recent_pages;
	struct span_list purging;
	struct span_list lost;
	size_t purging_pages;
	size_t lost_pages;
	uint64_t purged_pages;
	bool purges_later;
};

/* The two heaps of the process (heaps.c). */
extern struct pageheap heap_arena;
extern struct pageheap heap_anon;

/**
 * heaps_init() - make the two usable, once, before there is a second thread
 */
void heaps_init(void);

/**
 * pageheap_alloc() - take a run of pages
 * @ph: heap
 * @nr_pages: length, at least 1
 * @align_pages: alignment of the first page in pages, a power of two
 * @zero: set to whether the pages are known to read as zero; may be NULL
 *
 * Return: a descriptor in state SPAN_LARGE with cls 0 and its pages entered in
 * the page table at both ends, or NULL when there is no memory.
 */
struct span *pageheap_alloc(struct pageheap *ph, size_t nr_pages, size_t align_pages,
			    bool *zero);

/**
 * pageheap_free() - give a run back; its contents are considered dirty
 * @ph: heap it came from
 * @s: its descriptor, cls 0 and nr_pages set, state SPAN_LARGE; gone afterwards
 *
 * Return: false, and nothing was done, when the state is another one: somebody
 * has freed it already.
 */
bool pageheap_free(struct pageheap *ph, struct span *s);

/**
 * pageheap_free_purged() - purge a run, then give it back as clean
 * @ph: heap it came from
 * @s: as for pageheap_free()
 *
 * For pages that show the memory of somebody else until they are purged. When
 * the purge fails the run is not used again until a pageheap_purge() could do it.
 * With pageheap_purge_later() it is left to that, unless very many pages are.
 */
void pageheap_free_purged(struct pageheap *ph, struct span *s);

/**
 * pageheap_resize() - change the length of a run in place
 * @ph: heap it came from
 * @s: run in state SPAN_LARGE
 * @nr_pages: new length
 *
 * A run at the end of the area grows with it.
 *
 * Return: whether that was possible; shrinking always is, unless there is no
 * memory for a descriptor of the rest.
 */
bool pageheap_resize(struct pageheap *ph, struct span *s, size_t nr_pages);

/**
 * pageheap_purge() - return dirty runs to the system
 * @ph: heap
 * @max_pages: stop after so many pages
 *
 * The heap's lock is dropped around the system call.
 *
 * Return: pages given back.
 */
size_t pageheap_purge(struct pageheap *ph, size_t max_pages);

/**
 * pageheap_shrink() - give the addresses of clean pages at the end of the area back
 * @ph: heap
 *
 * A first chunk stays.
 *
 * Return: pages that the area is shorter.
 */
size_t pageheap_shrink(struct pageheap *ph);

/**
 * pageheap_purge_lost() - purge what pageheap_free_purged() has left
 * @ph: heap
 * @max_runs: stop after so many runs
 *
 * Return: whether there may be more that can be purged.
 */
bool pageheap_purge_lost(struct pageheap *ph, unsigned int max_runs);

/**
 * pageheap_purge_later() - free need not make the system calls of pageheap_free_purged()
 * @ph: heap
 * @later: whether somebody will call pageheap_purge_lost(); not in a child of fork
 */
void pageheap_purge_later(struct pageheap *ph, bool later);

/**
 * pageheap_purge_begin() - take a dirty run off the heap to purge it
 * @ph: heap
 * @max_pages: how much of it, at least 1
 *
 * Return: a run in state SPAN_PURGING that must go to pageheap_purge_end(), or
 * NULL when there is none.
 */
struct span *pageheap_purge_begin(struct pageheap *ph, size_t max_pages);

/**
 * pageheap_purge_end() - the system call for a run is done
 * @ph: heap
 * @s: run from pageheap_purge_begin()
 * @purged: whether it worked; the run is dirty again if not
 */
void pageheap_purge_end(struct pageheap *ph, struct span *s, bool purged);

/**
 * pageheap_purge_parts() - in place of pageheap_purge_end() when the system call has failed
 * @ph: heap
 * @s: run from pageheap_purge_begin()
 *
 * One page that a program has locked, and has freed so, is in the way of all others of the
 * run: makes the system call for one part after the other.
 *
 * Return: pages given back.
 */
size_t pageheap_purge_parts(struct pageheap *ph, struct span *s);

/**
 * pageheap_in_use() - pages that are part of spans and large objects
 * @ph: heap
 */
size_t pageheap_in_use(struct pageheap *ph);

/**
 * pageheap_dirty() - free pages that a purge would return
 * @ph: heap
 */
size_t pageheap_dirty(struct pageheap *ph);

/**
 * pageheap_spare() - free pages of either kind
 * @ph: heap
 */
size_t pageheap_spare(struct pageheap *ph);

void pageheap_fork_prepare(struct pageheap *ph);
void pageheap_fork_parent(struct pageheap *ph);
void pageheap_fork_child(struct pageheap *ph);

#endif /* MESH_PAGEHEAP_H */
