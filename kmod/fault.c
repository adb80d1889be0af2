// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Page faults on an arena.
 *
 * Both handlers return with the folio locked and the alias checked under that lock;
 * mm/ installs the PTE before it unlocks. So whoever holds the folio's lock knows
 * that no PTE for it is being installed, and that the next fault will see what was
 * done meanwhile. No lock of the arena is taken unless the index is in a removal
 * window or its slot is armed.
 */
#include <linux/sched/signal.h>

#include "meshhelper.h"

/* Context: the slot's folio is locked, see mh_page_current(). */
static bool mh_window_covers(struct mh_arena *arena, pgoff_t index)
{
	return index < READ_ONCE(arena->window_end) &&
	       index >= READ_ONCE(arena->window_first);
}

/*
 * The slot became a spare while the page was waited for, and the wait may have ended
 * with a new page in it: nobody else would free that.
 */
static void mh_drop_spare(struct mh_arena *arena, pgoff_t slot)
{
	if (!mh_slot_spare(arena, slot))
		return;
	mutex_lock(&arena->lock);
	if (mh_slot_spare(arena, slot))
		mh_free_slots(arena, slot, slot + 1);
	mutex_unlock(&arena->lock);
}

/* Removal holds arena->lock as long as its window is open. */
static void mh_window_wait(struct mh_arena *arena, pgoff_t index)
{
	if (!mh_window_covers(arena, index))
		return;
	mutex_lock(&arena->lock);
	mutex_unlock(&arena->lock);
}

/* With @page locked: is it what @index shows, and may it be mapped? */
static bool mh_page_current(struct mh_arena *arena, struct page *page, pgoff_t index,
			    pgoff_t slot)
{
	struct folio *folio = page_folio(page);

	/*
	 * Pairs with the barrier in mh_window_open(): either this fault sees the
	 * window, or the removal finds the page in the store and waits for its lock.
	 */
	smp_mb();
	return folio->mapping == mh_store_mapping(arena) &&
	       folio->index + folio_page_idx(folio, page) == slot &&
	       mh_slot(arena, index) == slot && !mh_window_covers(arena, index);
}

/**
 * mh_fault - vm_ops->fault of an arena
 * @vmf: the fault
 *
 * Return: VM_FAULT_LOCKED with vmf->page set; VM_FAULT_NOPAGE to be called again;
 * VM_FAULT_OOM; VM_FAULT_SIGBUS beyond the store's end, for a page lost to a memory
 * error, or in a child whose copy could not be made at fork.
 */
vm_fault_t mh_fault(struct vm_fault *vmf)
{
	struct mh_arena *arena = vmf->vma->vm_private_data;
	struct page *page;
	pgoff_t slot;

	if (!arena)
		return VM_FAULT_SIGBUS;
	mh_count(MH_COUNT_faults_total, 1);
	for (;;) {
		slot = mh_slot(arena, vmf->pgoff);
		page = mh_slot_page(arena, slot);
		if (IS_ERR(page))
			return vmf_error(PTR_ERR(page));
		lock_page(page);
		if (mh_page_current(arena, page, vmf->pgoff, slot))
			break;
		unlock_page(page);
		put_page(page);
		mh_drop_spare(arena, slot);
		if (fatal_signal_pending(current))
			return VM_FAULT_NOPAGE;
		mh_window_wait(arena, vmf->pgoff);
	}
	vmf->page = page;
	return VM_FAULT_LOCKED;
}

/**
 * mh_page_mkwrite - vm_ops->page_mkwrite of an arena
 * @vmf: a write to a page that is mapped, or about to be, without write permission
 *
 * Every first write comes here, as the VMA asks for write notification; so do
 * writes to pages that userfaultfd protects in its asynchronous mode. This is where
 * a merge that has armed the slot loses against the writer.
 *
 * Return: VM_FAULT_LOCKED, or VM_FAULT_NOPAGE to have the fault tried again.
 */
vm_fault_t mh_page_mkwrite(struct vm_fault *vmf)
{
	struct mh_arena *arena = vmf->vma->vm_private_data;
	pgoff_t slot;

	if (!arena)
		return VM_FAULT_SIGBUS;
	lock_page(vmf->page);
	slot = mh_slot(arena, vmf->pgoff);
	if (!mh_page_current(arena, vmf->page, vmf->pgoff, slot)) {
		unlock_page(vmf->page);
		return VM_FAULT_NOPAGE;
	}
	if (xa_load(&arena->armed, slot))
		xa_erase(&arena->armed, slot);
	return VM_FAULT_LOCKED;
}
