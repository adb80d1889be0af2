/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * stats.h: the heap in numbers. All in bytes unless the name says otherwise; each
 * figure is exact when no other thread allocates meanwhile, and then they add up:
 *
 *	slots_used + slots_cached + slots_free + slots_waste = span_bytes
 *	arena.in_use + anon.in_use = span_bytes + large
 *	heap.mapped = in_use + clean + dirty + purging + lost
 */
#ifndef MESH_STATS_H
#define MESH_STATS_H

#include "huge.h"
#include "message.h"
#include "sizeclass.h"

/**
 * struct class_stats - one size class
 * @spans: spans, by their virtual pages
 * @groups: mesh groups: spans, by their physical pages
 * @live: slots in use, those in thread caches included
 * @cached: slots in thread caches and transfer caches
 * @refills: batches handed out
 * @returns: batches taken back
 */
struct class_stats {
	size_t spans;
	size_t groups;
	size_t live;
	size_t cached;
	uint64_t refills;
	uint64_t returns;
};

/**
 * struct heap_stats - one page heap
 * @mapped: address space
 * @in_use: part of spans and large objects
 * @clean: free, reads as zero
 * @dirty: free, has old contents
 * @purging: free, on its way to the system
 * @lost: not usable any more
 * @purged: given back since the start
 */
struct heap_stats {
	size_t mapped;
	size_t in_use;
	size_t clean;
	size_t dirty;
	size_t purging;
	size_t lost;
	uint64_t purged;
};

/**
 * struct stats - the heap
 * @classes: by size class
 * @arena: the page heap of small objects
 * @anon: the page heap of everything else up to LARGE_MAX
 * @huge: objects beyond that
 * @span_bytes: virtual pages of all spans
 * @meshed: of these, pages that share the memory of another span
 * @slots_used: slots the program uses
 * @slots_cached: slots in thread caches and transfer caches
 * @slots_free: slots nobody uses
 * @slots_waste: rest of spans that are no multiple of their slot size
 * @large: large objects
 * @threads: thread caches
 */
struct stats {
	struct class_stats classes[NR_CLASSES];
	struct heap_stats arena;
	struct heap_stats anon;
	struct huge_usage huge;
	size_t span_bytes;
	size_t meshed;
	size_t slots_used;
	size_t slots_cached;
	size_t slots_free;
	size_t slots_waste;
	size_t large;
	unsigned int threads;
};

/**
 * stats_collect() - take the numbers
 * @s: filled in
 */
void stats_collect(struct stats *s);

/**
 * stats_allocated() - bytes the program uses
 * @s: filled in by stats_collect()
 */
size_t stats_allocated(const struct stats *s);

/**
 * stats_resident() - PSS of the process in bytes, as the kernel counts it
 *
 * Return: 0 if /proc does not tell.
 */
size_t stats_resident(void);

/**
 * stats_brief() - the summary of MALLOCSTATS
 * @fd: descriptor
 * @level: 2: and all statistics
 */
void stats_brief(int fd, unsigned int level);

/**
 * stats_histogram_dump() - how full the spans of each class are, to a descriptor
 * @fd: descriptor
 *
 * Counts by walking lists, under the lock of one class at a time, and the mesh lock: for
 * the daemon.
 */
void stats_histogram_dump(int fd);

/**
 * stats_xml() - print as malloc_info(3) does
 * @t: sink
 */
void stats_xml(struct text *t);

/**
 * stats_dump() - print for humans, to a descriptor
 * @fd: descriptor
 */
void stats_dump(int fd);

/**
 * stats_daemon_dump() - the same for the daemon, which takes locks under the mesh lock only
 * @fd: descriptor
 */
void stats_daemon_dump(int fd);

#endif /* MESH_STATS_H */
