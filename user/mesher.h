/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * mesher.h: one pass over the heap that merges what can be merged and gives back
 * what is free.
 *
 * Threads: passes and purges are made by one thread at a time, the daemon, or by
 * malloc_trim() in a process without one. The mesh lock is held in steps, from
 * the moment spans or runs are taken until they are back; whoever holds it finds
 * no span in state SPAN_MESHING and no run in state SPAN_PURGING.
 */
#ifndef MESH_MESHER_H
#define MESH_MESHER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend.h"
#include "loop.h"
#include "pageheap.h"

/**
 * struct mesh_stats - the counters of stats.def
 */
struct mesh_stats {
#define MESH_STAT(field, help)	atomic_ulong field;
#include "stats.def"
#undef MESH_STAT
};

extern struct mesh_stats mesh_stats;

static inline void mesh_stat_add(atomic_ulong *stat, unsigned long n)
{
	atomic_fetch_add_explicit(stat, n, memory_order_relaxed);
}

/* Set when the daemon shall end: a pass that is running stops soon. */
extern atomic_bool mesher_quit;

/**
 * struct mesh_outcome - what a pass has achieved
 * @candidates: groups looked at
 * @merged: pairs merged
 * @refused: pairs that fit, and that the backend did not merge
 */
struct mesh_outcome {
	unsigned long candidates;
	unsigned long merged;
	unsigned long refused;
};

/**
 * mesher_open() - get the memory a pass works with
 *
 * Return: 0 or -ENOMEM.
 */
int mesher_open(void);

/**
 * mesher_set_gentle() - shall the daemon sleep a little now and then?
 * @on: yes, while the program is busy and nobody waits for the daemon
 * @frees: it is not busy while daemon_frees is this
 *
 * The daemon's.
 */
void mesher_set_gentle(bool on, unsigned long frees);

/**
 * mesher_pass() - look for pairs in every class and merge them
 * @ops: a backend whose mesh_open() has succeeded
 * @all: classes in which little was found of late are not skipped
 *
 * Only after mesher_open().
 */
struct mesh_outcome mesher_pass(const struct backend_ops *ops, bool all);

/**
 * mesher_purge() - give dirty free runs back
 * @ph: heap
 * @ops: backend of the arena
 * @loop: open loop to do it with, or NULL: one by one
 * @max_pages: about how much
 *
 * Return: pages given back.
 */
size_t mesher_purge(struct pageheap *ph, const struct backend_ops *ops,
		    const struct loop_ops *loop, size_t max_pages);

/**
 * mesher_purge_lost() - give back what waits for that
 * @ph: heap
 */
void mesher_purge_lost(struct pageheap *ph);

/**
 * mesher_lock() - keep the program from forking, but after those who want to
 *
 * For short: it takes the mesh lock. The daemon takes no other lock without it.
 */
void mesher_lock(void);
void mesher_unlock(void);

/*
 * Around fork, before and after every other lock of the heap but the daemon's.
 * prepare makes a pass that is running stop at its next step and waits for it.
 */
void mesher_fork_prepare(void);
void mesher_fork_parent(void);
void mesher_fork_child(bool held);

#endif /* MESH_MESHER_H */
