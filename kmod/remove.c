// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Giving pages back: madvise(MADV_REMOVE) on an arena arrives here as fallocate()
 * with FALLOC_FL_PUNCH_HOLE on the file of its VMA.
 *
 * shmem_truncate_range() unmaps a page by its slot, in its own store's reverse map.
 * For us that finds neither aliases nor the VMAs of a forked child, and freeing a
 * page that is still mapped is a kernel bug. So the range is unmapped first and
 * kept unmapped by the removal window: faults inside it wait for arena->lock.
 *
 * An index that shares its slot leaves its group; the page stays with the others.
 */
#include <linux/falloc.h>

#include "meshhelper.h"

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
	void *entry = xa_load(&mh_store_mapping(arena)->i_pages, slot);
	struct page *page;

	if (!entry || xa_is_value(entry))
		return;
	page = mh_slot_page(arena, slot);
	if (IS_ERR(page))
		return;
	lock_page(page);
	unlock_page(page);
	put_page(page);
}

/* Slots of indices at home, which need no entry in the alias map to be found. */
static void mh_wait_for_faults(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	struct xarray *pages = &mh_store_mapping(arena)->i_pages;
	unsigned long index = first;
	void *entry;

	for (; xa_find(pages, &index, end - 1, XA_PRESENT); index++) {
		mh_wait_for_fault(arena, index);
		cond_resched();
	}
	index = first;
	xa_for_each_range(&arena->alias, index, entry, first, end - 1) {
		mh_wait_for_fault(arena, xa_to_value(entry));
		cond_resched();
	}
}

static unsigned long mh_count_pages(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	struct xarray *pages = &mh_store_mapping(arena)->i_pages;
	unsigned long slot = first, nr = 0;

	for (; xa_find(pages, &slot, end - 1, XA_PRESENT); slot++) {
		nr++;
		cond_resched();
	}
	return nr;
}

/**
 * mh_free_slots - free the pages of slots and forget that any was armed
 * @arena: the arena
 * @first: first slot
 * @end: slot after the last
 *
 * Context: arena->lock held; no page table entry shows the slots, and none can.
 */
void mh_free_slots(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	unsigned long slot;
	void *entry;

	if (first >= end)
		return;
	mh_count(MH_COUNT_pages_removed_total, mh_count_pages(arena, first, end));
	shmem_truncate_range(mh_store_inode(arena), (loff_t)first << PAGE_SHIFT,
			     ((loff_t)end << PAGE_SHIFT) - 1);
	xa_for_each_range(&arena->armed, slot, entry, first, end - 1)
		xa_erase(&arena->armed, slot);
}

/* The lone owner of a slot away from home gives back that slot's page. */
static void mh_free_alias(struct mh_arena *arena, pgoff_t index)
{
	pgoff_t slot = mh_slot(arena, index);

	if (mh_group(arena, slot)) {
		mh_group_leave(arena, index);
		atomic64_dec(&arena->nr_meshed);
		mh_count(MH_COUNT_pages_meshed, -1);
		return;
	}
	mh_free_slots(arena, slot, slot + 1);
}

/*
 * Frees what the indices of the range use, and nothing else: the slot of an index
 * in the range may be in use by an index outside of it.
 */
static void mh_free_range(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	struct mh_group *group;
	unsigned long index;
	void *entry;

	/*
	 * Members first. Those at home have no visible alias entry, but their slot
	 * is that of a group, and then in [first, end).
	 */
	xa_for_each_range(&arena->groups, index, group, first, end - 1) {
		if (mh_slot(arena, index) == index)
			mh_free_alias(arena, index);
	}
	xa_for_each_range(&arena->alias, index, entry, first, end - 1)
		mh_free_alias(arena, index);

	/* Now [first, end) minus the slots that are not those of lone, home indices. */
	xa_for_each_range(&arena->alias, index, entry, first, end - 1) {
		mh_free_slots(arena, first, index);
		first = index + 1;
	}
	mh_free_slots(arena, first, end);
}

static void mh_remove(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	mutex_lock(&arena->lock);
	mh_window_open(arena, first, end);
	mh_wait_for_faults(arena, first, end);
	mh_zap(arena, first, end - first);
	mh_free_range(arena, first, end);
	mh_window_close(arena);
	mutex_unlock(&arena->lock);
}

/**
 * mh_fallocate - fallocate() on an arena's file: only holes can be punched
 * @file: the first store of the family, which all its VMAs have as their file
 * @mode: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
 * @offset: bytes, page aligned; index space of the caller's arena
 * @len: bytes, page aligned
 *
 * The indices read as zeroes afterwards and use no memory of their own.
 *
 * Context: no locks held; sleeps.
 * Return: 0; -EOPNOTSUPP for other modes; -EINVAL when misaligned or out of range;
 * -ENXIO when the caller has no arena in this family.
 */
long mh_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	struct mh_family *family = file->private_data;
	struct mh_arena *arena;

	if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (!PAGE_ALIGNED(offset | len) ||
	    (offset + len) >> PAGE_SHIFT > MH_MAX_ARENA_PAGES)
		return -EINVAL;
	arena = family && current->mm ? mh_arena_of_mm(family, current->mm) : NULL;
	if (!arena)
		return -ENXIO;
	mh_remove(arena, offset >> PAGE_SHIFT, (offset + len) >> PAGE_SHIFT);
	mh_arena_put(arena);
	return 0;
}
