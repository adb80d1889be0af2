// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * What the arenas of a process hold, for the fdinfo of a descriptor of the device, in
 * the grammar of Documentation/gpu/drm-usage-stats.rst: "key: value unit".
 *
 * Every page of a store is counted for exactly one arena, so that the sum over a family
 * is right: that whose layer has it, and for layers without a process that of the oldest
 * heir (mh_usage_layer()).
 *
 * Arenas may be huge and their owners busy. No lock is held for more than a number of
 * entries, so what is changed meanwhile may be counted as it was before, or as it is now.
 */
#include <linux/sched/signal.h>
#include <linux/seq_file.h>

#include "meshhelper.h"

/* Most entries of an alias map that are looked at with locks held. */
#define MH_USAGE_CHUNK	1024

/**
 * struct mh_usage - what an arena holds
 * @touched: pages from the start of its file to the last that was ever touched
 * @resident: pages in memory
 * @swapped: pages in swap
 * @saved: pages that need no page of their own
 * @groups: slots that are shown by more than one index
 * @spares: slots that are kept for those indices
 * @layers: layers from its own down to the oldest it looks through to
 * @merged: pages merged since it was made
 */
struct mh_usage {
	u64 touched;
	u64 resident;
	u64 swapped;
	u64 saved;
	u64 groups;
	u64 spares;
	u64 layers;
	u64 merged;
};

static void mh_usage_add(struct mh_usage *sum, const struct mh_usage *usage)
{
	sum->touched += usage->touched;
	sum->resident += usage->resident;
	sum->swapped += usage->swapped;
	sum->saved += usage->saved;
	sum->groups += usage->groups;
	sum->spares += usage->spares;
	sum->layers += usage->layers;
	sum->merged += usage->merged;
}

/* Shmem keeps a value where a page is in swap. */
static void mh_usage_page(struct mh_usage *usage, void *entry)
{
	if (xa_is_value(entry))
		usage->swapped++;
	else if (entry)
		usage->resident++;
}

/* All that is in a layer's own region. */
static void mh_usage_region(struct mh_usage *usage, struct mh_family *family, pgoff_t base)
{
	pgoff_t last = base + MH_MAX_ARENA_PAGES - 1;
	unsigned long slot = base;
	void *entry;

	for (; !fatal_signal_pending(current); slot++) {
		entry = xa_find(&family->store->i_pages, &slot, last, XA_PRESENT);
		if (!entry)
			break;
		mh_usage_page(usage, entry);
		cond_resched();
	}
}

/* A group counts once; slots in regions of others are those that a collapse took over. */
static void mh_usage_alias(struct mh_usage *usage, struct mh_family *family,
			   struct mh_layer *layer, pgoff_t index, pgoff_t slot)
{
	struct mh_group *group = xa_load(&layer->groups, slot);

	if (group && group->member[0] != index)
		return;
	if (group) {
		usage->groups++;
		usage->spares += group->nr - 1;
	}
	if (mh_region(slot) != mh_region(layer->base))
		mh_usage_page(usage, xa_load(&family->store->i_pages, slot));
}

/* Return: whether there may be more, from *@index on. */
static bool mh_usage_aliases(struct mh_usage *usage, struct mh_family *family,
			     struct mh_layer *layer, unsigned long *index)
{
	unsigned int n;
	void *entry;

	for (n = 0; n < MH_USAGE_CHUNK; n++, ++*index) {
		entry = xa_find(&layer->alias, index, ULONG_MAX, XA_PRESENT);
		if (!entry)
			return false;
		mh_usage_alias(usage, family, layer, *index, xa_to_value(entry));
	}
	return true;
}

/*
 * The @n-th layer that counts for an arena, its top being number 0. A layer that is
 * nobody's counts for who is above it, and among several for the first in its list.
 */
static struct mh_layer *mh_usage_layer(struct mh_arena *arena, unsigned int n)
{
	struct mh_layer *layer = arena->top, *lower;

	for (; layer && n; n--, layer = lower) {
		lower = layer->lower;
		if (!lower || lower->arena || mh_layer_upper(lower) != layer)
			return NULL;
	}
	return layer;
}

static bool mh_usage_lock(struct mh_arena *arena)
{
	if (down_read_killable(&arena->family->tree))
		return false;
	if (!mutex_lock_killable(&arena->lock))
		return true;
	up_read(&arena->family->tree);
	return false;
}

static void mh_usage_unlock(struct mh_arena *arena)
{
	mutex_unlock(&arena->lock);
	up_read(&arena->family->tree);
}

/*
 * One chunk of layer number @n. Return: 1 if there may be more of it, 0 when it is done,
 * with *@base set, -ENOENT if there is none, -EINTR.
 */
static int mh_usage_chunk(struct mh_usage *usage, struct mh_arena *arena, unsigned int n,
			  unsigned long *index, pgoff_t *base)
{
	struct mh_layer *layer;
	int ret = -ENOENT;

	if (!mh_usage_lock(arena))
		return -EINTR;
	layer = mh_usage_layer(arena, n);
	if (layer) {
		ret = mh_usage_aliases(usage, arena->family, layer, index);
		if (!ret)
			usage->saved += atomic_long_read(&layer->nr_meshed);
		*base = layer->base;
	}
	mh_usage_unlock(arena);
	return ret;
}

static void mh_usage_depth(struct mh_usage *usage, struct mh_arena *arena)
{
	struct mh_layer *layer;

	if (down_read_killable(&arena->family->tree))
		return;
	for (layer = arena->top; layer; layer = layer->lower)
		usage->layers++;
	up_read(&arena->family->tree);
}

static void mh_usage_of(struct mh_usage *usage, struct mh_arena *arena)
{
	unsigned long index;
	unsigned int n = 0;
	pgoff_t base;
	int more;

	usage->touched = atomic_long_read(&arena->touched_end);
	usage->merged = atomic64_read(&arena->nr_merged);
	mh_usage_depth(usage, arena);
	do {
		index = 0;
		do {
			more = mh_usage_chunk(usage, arena, n, &index, &base);
			cond_resched();
		} while (more > 0);
		if (!more)
			mh_usage_region(usage, arena->family, base);
		n++;
	} while (!more);
}

static void mh_usage_print(struct seq_file *m, const struct mh_usage *usage,
			   const char *arena)
{
	unsigned int kib = PAGE_SHIFT - 10;

	seq_printf(m, "mesh-touched%s:\t%llu KiB\n", arena, usage->touched << kib);
	seq_printf(m, "mesh-resident%s:\t%llu KiB\n", arena, usage->resident << kib);
	seq_printf(m, "mesh-swapped%s:\t%llu KiB\n", arena, usage->swapped << kib);
	seq_printf(m, "mesh-saved%s:\t%llu KiB\n", arena, usage->saved << kib);
	seq_printf(m, "mesh-groups%s:\t%llu\n", arena, usage->groups);
	seq_printf(m, "mesh-spares%s:\t%llu\n", arena, usage->spares);
	seq_printf(m, "mesh-layers%s:\t%llu\n", arena, usage->layers);
	seq_printf(m, "mesh-merged-total%s:\t%llu pages\n", arena, usage->merged);
}

/**
 * mh_usage_show - write what a process's arenas hold to an fdinfo file
 * @m: where to
 * @mm: the process; the caller keeps its address from being used anew
 *
 * The keys of each arena end in its number; then come the same without, the sums.
 *
 * Context: process, no locks held; sleeps.
 */
void mh_usage_show(struct seq_file *m, struct mm_struct *mm)
{
	struct mh_usage sum = { 0 }, usage;
	struct mh_arena *arena = NULL;
	char number[24];
	u64 arenas = 0;

	while ((arena = mh_arena_next(arena, mm))) {
		/* It is going to be called again, with more room. */
		if (seq_has_overflowed(m) || fatal_signal_pending(current)) {
			mh_arena_unpin(arena);
			break;
		}
		memset(&usage, 0, sizeof(usage));
		mh_usage_of(&usage, arena);
		mh_usage_add(&sum, &usage);
		snprintf(number, sizeof(number), "-%llu", mh_family_id(arena->family));
		mh_usage_print(m, &usage, number);
		arenas++;
	}
	seq_printf(m, "mesh-arenas:\t%llu\n", arenas);
	mh_usage_print(m, &sum, "");
}
