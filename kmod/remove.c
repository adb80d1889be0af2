// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Giving pages back: madvise(MADV_REMOVE) on an arena arrives here as fallocate()
 * with FALLOC_FL_PUNCH_HOLE on the file of its VMA.
 *
 * shmem_truncate_range() unmaps a page by its slot, in the store's reverse map. That
 * finds neither aliases nor what a forked child has written to, and freeing a page
 * that is still mapped is a kernel bug. So the range is unmapped first and
 * kept unmapped by the removal window: faults inside it wait for arena->lock.
 *
 * An index that shares its slot leaves its group; the page stays with the others.
 *
 * Relatives that still look through to the arena get copies first of what there is; their
 * faults in holes wait for the window, too. Where the arena looks through to a layer below
 * itself, it is given holes of its own, or copies of aliases, which then leave their group.
 */
#include <linux/falloc.h>

#include "meshhelper.h"
#include "trace.h"

/* Indices that are removed without giving up family->tree. */
#define MH_REMOVE_AT_ONCE	1024UL

static void mh_window_open(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	WRITE_ONCE(arena->window_first, first);
	WRITE_ONCE(arena->window_end, end);
	/* Pairs with mh_page_current(): see there. */
	smp_mb();
}

static void mh_window_close(struct mh_arena *arena)
{
	WRITE_ONCE(arena->window_end, 0);
}

/*
 * A fault that saw no window has the folio locked until its PTE is there. What is in
 * swap is mapped nowhere, and no fault has found it yet.
 */
static void mh_wait_for_fault(struct mh_arena *arena, pgoff_t slot)
{
	struct folio *folio = filemap_lock_folio(arena->family->store, slot);

	/* NULL on older kernels. */
	if (IS_ERR_OR_NULL(folio))
		return;
	folio_unlock(folio);
	folio_put(folio);
}

/* Slots of indices at home need no entry in the alias map to be found. */
static void mh_wait_for_faults(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	struct xarray *pages = &arena->family->store->i_pages;
	pgoff_t last = arena->top->base + end - 1;
	unsigned long slot = arena->top->base + first, index;
	void *entry;

	for (; xa_find(pages, &slot, last, XA_PRESENT); slot++) {
		mh_wait_for_fault(arena, slot);
		cond_resched();
	}
	xa_for_each_range(&arena->top->alias, index, entry, first, end - 1) {
		mh_wait_for_fault(arena, xa_to_value(entry));
		cond_resched();
	}
}

/**
 * mh_free_slots - free the pages of slots and forget that any was armed
 * @arena: the arena
 * @first: first slot
 * @end: slot after the last
 *
 * Context: arena->lock held; no page table entry shows the slots, and none can.
 */
static void mh_free_slots(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	unsigned long slot;
	void *entry;

	if (first >= end)
		return;
	mh_count(MH_COUNT_pages_removed_total, mh_store_count(arena->family, first, end));
	mh_store_free(arena->family, first, end);
	xa_for_each_range(&arena->armed, slot, entry, first, end - 1)
		xa_erase(&arena->armed, slot);
}

static void mh_free_alias(struct mh_arena *arena, pgoff_t index)
{
	pgoff_t slot = mh_resolve(arena->top, index, NULL);

	if (xa_load(&arena->top->groups, slot))
		mh_group_leave(arena->top, index);
	else
		mh_free_slots(arena, slot, slot + 1);
}

/*
 * Frees what the indices of the range use, and nothing else: the slot that is home to an
 * index in the range may be in use by one outside of it. Then both have an entry.
 */
static void mh_free_range(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	pgoff_t base = arena->top->base;
	unsigned long index;
	void *entry;

	xa_for_each_range(&arena->top->alias, index, entry, first, end - 1) {
		mh_free_alias(arena, index);
		cond_resched();
	}
	xa_for_each_range(&arena->top->alias, index, entry, first, end - 1) {
		mh_free_slots(arena, base + first, base + index);
		first = index + 1;
	}
	mh_free_slots(arena, base + first, base + end);
}

/* Nobody else may see the arena change, and it must not look through to others'. */
static int mh_remove_prepare(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	struct mh_layer *upper = mh_layer_upper(arena->top);
	int err = 0;

	if (upper)
		err = mh_copy_up_range(arena->family, upper, first, end);
	if (!err && arena->top->lower)
		err = mh_hide_range(arena->family, arena->top, first, end);
	return err;
}

/**
 * mh_remove_unmapped - the same as by madvise(MADV_REMOVE), where nobody can fault
 * @arena: has no page table entries in the range, nor can it get any
 * @first: first index
 * @end: index after the last
 *
 * Context: process, family->tree held; sleeps.
 * Return: 0, -ENOMEM, -EIO, or -EINTR for a fatal signal.
 */
int mh_remove_unmapped(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	int err = mh_remove_prepare(arena, first, end);

	if (err)
		return err;
	mutex_lock(&arena->lock);
	mh_free_range(arena, first, end);
	mutex_unlock(&arena->lock);
	return 0;
}

/* Context: family->tree held. Return: like mh_remove_unmapped(). */
static int mh_remove(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	int err = mh_remove_prepare(arena, first, end);

	if (err)
		return err;
	mutex_lock(&arena->lock);
	mh_window_open(arena, first, end);
	mh_wait_for_faults(arena, first, end);
	mh_zap(arena->family, first, end - first);
	mh_free_range(arena, first, end);
	mh_window_close(arena);
	mutex_unlock(&arena->lock);
	return 0;
}

/*
 * In pieces: relatives that fork or exit wait for the lock, and the page faults of all others
 * behind them.
 */
static int mh_remove_pieces(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	struct mh_family *family = arena->family;
	pgoff_t next;
	int err = 0;

	for (; first < end && !err; first = next) {
		next = min(first + MH_REMOVE_AT_ONCE, end);
		down_read(&family->tree);
		err = mh_remove(arena, first, next);
		up_read(&family->tree);
		if (!err && fatal_signal_pending(current))
			err = -EINTR;
	}
	return err;
}

/**
 * mh_fallocate - fallocate() on an arena's file: only holes can be punched
 * @file: the store of the family, which all its VMAs have as their file
 * @mode: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
 * @offset: bytes, page aligned; index space of the caller's arena
 * @len: bytes, page aligned
 *
 * The indices read as zeroes afterwards and use no memory of their own.
 *
 * Context: no locks held; sleeps.
 * Return: 0; -EOPNOTSUPP for other modes; -EINVAL when misaligned or out of range;
 * -ENXIO when the caller has no arena in this family; -ENOMEM when there is no memory
 * for copies that relatives need, and -EINTR for a fatal signal, with only the beginning of
 * the range removed, if any of it.
 */
long mh_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	struct mh_family *family = file->private_data;
	pgoff_t first = offset >> PAGE_SHIFT, end = (offset + len) >> PAGE_SHIFT;
	struct mh_arena *arena;
	int err;

	if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (!PAGE_ALIGNED(offset | len) || end > MH_MAX_ARENA_PAGES)
		return -EINVAL;
	if (!family || !current->mm)
		return -ENXIO;
	down_read(&family->tree);
	arena = mh_arena_of_mm(family, current->mm);
	up_read(&family->tree);
	if (!arena)
		return -ENXIO;
	err = mh_remove_pieces(arena, first, end);
	trace_meshhelper_remove(family, first, end - first, err);
	mh_arena_put(arena);
	return err;
}
