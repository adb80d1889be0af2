// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Page faults on an arena.
 *
 * Both handlers return with the folio locked and the slot checked under that lock;
 * mm/ installs the PTE before it unlocks, or written.c has done so here. So whoever holds the
 * folio's lock knows that no PTE for it is being installed, and that the next fault will see
 * what was done meanwhile. No lock of the arena is taken unless the index is in a removal
 * window, its slot is armed, or the process has relatives.
 */
#include <linux/sched/signal.h>

#include "meshhelper.h"
#include "trace.h"

static bool mh_has_relatives(struct mh_arena *arena)
{
	/* Pairs with mh_layer_settle(). */
	return smp_load_acquire(&arena->related);
}

/*
 * Relatives may have it for long, so who is killed need not wait for it.
 * Return: 1 if the lock was taken, 0 if there is no need, or -EINTR.
 */
static int mh_lock_tree(struct mh_arena *arena)
{
	if (!mh_has_relatives(arena))
		return 0;
	return down_read_killable(&arena->family->tree) ?: 1;
}

static void mh_unlock_tree(struct mh_arena *arena, int locked)
{
	if (locked)
		up_read(&arena->family->tree);
}

/**
 * mh_touch - note that an index may have a page from now on
 * @arena: the arena
 * @index: page of the arena
 *
 * What fork passes on ends with the last index that was ever touched.
 * Context: mmap_lock or the lock of the VMA held.
 */
void mh_touch(struct mh_arena *arena, pgoff_t index)
{
	long end = atomic_long_read(&arena->touched_end);

	while ((long)index >= end)
		if (atomic_long_try_cmpxchg(&arena->touched_end, &end, index + 1))
			break;
}

/* Context: the slot's folio is locked, see mh_page_current(). */
static bool mh_window_covers(struct mh_arena *arena, pgoff_t index)
{
	return index < READ_ONCE(arena->window_end) &&
	       index >= READ_ONCE(arena->window_first);
}

/*
 * Whose removal is what matters: the process that has the layer with the contents, which may
 * be a relative. A layer without a process does not change.
 */
static struct mh_arena *mh_remover(struct mh_layer *owner, pgoff_t index)
{
	struct mh_arena *arena = owner->arena;

	return arena && mh_window_covers(arena, index) ? arena : NULL;
}

/* Removal holds arena->lock as long as its window is open. */
static void mh_window_wait(struct mh_arena *arena, pgoff_t index)
{
	struct mh_arena *remover;
	struct mh_layer *owner;

	mh_resolve(arena->top, index, &owner);
	remover = mh_remover(owner, index);
	if (!remover)
		return;
	mutex_lock(&remover->lock);
	mutex_unlock(&remover->lock);
}

/* With @page locked: is it what @index shows, and may it be mapped? */
static bool mh_page_current(struct mh_arena *arena, struct page *page, pgoff_t index,
			    pgoff_t slot)
{
	struct mh_layer *owner;

	/*
	 * Pairs with the barrier in mh_window_open(): either this fault sees the
	 * window, or the removal finds the page in the store and waits for its lock.
	 */
	smp_mb();
	return mh_slot_page_is(arena->family, page, slot) &&
	       mh_resolve(arena->top, index, &owner) == slot && !mh_remover(owner, index);
}

/* Context: the slot's folio is locked. Whoever copies it up will find the mark. */
static int mh_lend(struct mh_layer *owner, pgoff_t slot)
{
	if (xa_load(&owner->lent, slot))
		return 0;
	return xa_err(xa_store(&owner->lent, slot, xa_mk_value(1), GFP_KERNEL_ACCOUNT));
}

/* Who looks through to nothing gets nothing, as long as there is no page that is to be copied. */
static int mh_pass_on_hole(struct mh_arena *arena, struct vm_fault *vmf, pgoff_t slot)
{
	struct mh_layer *upper = mh_layer_upper(arena->top);

	if (!upper || !(vmf->flags & FAULT_FLAG_WRITE) || mh_slot_present(arena->family, slot))
		return 0;
	return mh_copy_up(arena->family, upper, vmf->pgoff, NULL);
}

/*
 * Context: @page locked, and what the fault's index shows.
 * Return: 0 with vmf->page set and locked, or NULL if it has been mapped; or an errno.
 */
static int mh_fault_end(struct mh_arena *arena, struct vm_fault *vmf, struct page *page,
			struct mh_layer *owner, pgoff_t slot, bool copied)
{
	int err = owner == arena->top ? 0 : mh_lend(owner, slot);

	if (err)
		return err;
	if (slot != vmf->pgoff)
		mh_shrink_note(arena->family, 1);
	trace_meshhelper_alias_fault(arena, vmf, owner, slot);
	vmf->page = page;
	if (owner == arena->top && mh_map_written(arena, vmf, page, slot, copied)) {
		unlock_page(page);
		put_page(page);
		vmf->page = NULL;
	}
	return 0;
}

/*
 * Return: 0 with vmf->page set and locked, or NULL if it has been mapped; an errno; or 1 to be
 * called again.
 */
static int mh_fault_page(struct mh_arena *arena, struct vm_fault *vmf)
{
	struct mh_family *family = arena->family;
	struct mh_layer *owner;
	bool copied = false;
	struct page *page;
	pgoff_t slot;
	int err;

	slot = mh_resolve(arena->top, vmf->pgoff, &owner);
	if (owner != arena->top && vmf->flags & FAULT_FLAG_WRITE) {
		err = mh_copy_up_fault(family, arena->top, vmf->pgoff, vmf->vma, &page);
		if (!page)
			return err ?: 1;
		copied = true;
		owner = arena->top;
		slot = owner->base + vmf->pgoff;
	} else {
		err = mh_pass_on_hole(arena, vmf, slot);
		if (err)
			return err;
		page = mh_slot_lock(family, slot, SGP_CACHE);
		if (IS_ERR(page))
			return PTR_ERR(page);
	}
	err = 1;
	if (mh_page_current(arena, page, vmf->pgoff, slot))
		err = mh_fault_end(arena, vmf, page, owner, slot, copied);
	if (!err)
		return 0;
	unlock_page(page);
	put_page(page);
	mh_drop_spare(family, owner, slot);
	return err;
}

/* Context: family->tree held, if the process has relatives. Return: like mh_fault_page(). */
static int mh_fault_locked(struct mh_arena *arena, struct vm_fault *vmf)
{
	int ret;

	for (;;) {
		ret = mh_fault_page(arena, vmf);
		if (ret != 1 || fatal_signal_pending(current))
			return ret;
		mh_window_wait(arena, vmf->pgoff);
	}
}

/**
 * mh_fault - vm_ops->fault of an arena
 * @vmf: the fault
 *
 * Return: VM_FAULT_LOCKED with vmf->page set; VM_FAULT_NOPAGE if it has been mapped, or to be
 * called again; VM_FAULT_OOM; VM_FAULT_HWPOISON for a page lost to a memory error; VM_FAULT_SIGBUS
 * beyond the largest arena, for a page that swap does not give back, in a child that could not be
 * given an arena at fork, or where a fatal signal is pending, so that nobody notices.
 */
vm_fault_t mh_fault(struct vm_fault *vmf)
{
	struct mh_arena *arena = vmf->vma->vm_private_data;
	int ret, locked;

	/* mremap() can make a mapping larger than we would, and a slot that of another layer. */
	if (!arena || vmf->pgoff >= MH_MAX_ARENA_PAGES)
		return VM_FAULT_SIGBUS;
	mh_count(MH_COUNT_faults_total, 1);
	mh_touch(arena, vmf->pgoff);
	if (mh_has_relatives(arena) && mh_fault_around(arena, vmf))
		return VM_FAULT_NOPAGE;
	locked = mh_lock_tree(arena);
	if (locked < 0)
		return VM_FAULT_SIGBUS;
	ret = mh_fault_locked(arena, vmf);
	mh_unlock_tree(arena, locked);
	if (ret < 0)
		return vmf_error(ret);
	return ret || !vmf->page ? VM_FAULT_NOPAGE : VM_FAULT_LOCKED;
}

/* Before a write: what relatives see must not change. */
static int mh_unshare(struct mh_arena *arena, struct vm_fault *vmf)
{
	struct mh_layer *upper = mh_layer_upper(arena->top);
	int err = mh_copy_up(arena->family, arena->top, vmf->pgoff, vmf->vma);

	if (!err && upper)
		err = mh_copy_up(arena->family, upper, vmf->pgoff, NULL);
	return err;
}

/*
 * Are relatives, or others on their behalf, reading the page although it is in none of their
 * page tables? If not, the owner may write to it, and it is lent no longer.
 * Context: @page locked; one reference is that of the fault.
 */
static bool mh_has_readers(struct mh_arena *arena, struct page *page, pgoff_t slot)
{
	struct xarray *lent = &arena->top->lent;

	if (!xa_load(lent, slot))
		return false;
	if (mh_page_held(page, 1))
		return true;
	xa_erase(lent, slot);
	return false;
}

/* Context: family->tree held, if the process has relatives. */
static vm_fault_t mh_page_mkwrite_locked(struct mh_arena *arena, struct vm_fault *vmf,
					 int related)
{
	int err = related ? mh_unshare(arena, vmf) : 0;
	pgoff_t slot;

	if (err)
		return vmf_error(err);
	lock_page(vmf->page);
	slot = mh_resolve(arena->top, vmf->pgoff, NULL);
	if (!mh_page_current(arena, vmf->page, vmf->pgoff, slot)) {
		unlock_page(vmf->page);
		/* Or a thread of high priority would try again until its CPU is taken away. */
		mh_window_wait(arena, vmf->pgoff);
		return VM_FAULT_NOPAGE;
	}
	if (mh_has_readers(arena, vmf->page, slot)) {
		unlock_page(vmf->page);
		err = mh_leave_to_readers(arena, vmf->pgoff);
		return err ? vmf_error(err) : VM_FAULT_NOPAGE;
	}
	if (xa_load(&arena->armed, slot))
		xa_erase(&arena->armed, slot);
	return VM_FAULT_LOCKED;
}

/**
 * mh_page_mkwrite - vm_ops->page_mkwrite of an arena
 * @vmf: a write to a page that is mapped, or about to be, without write permission
 *
 * First writes come here unless mh_map_written() has been enough, as the VMA asks for write
 * notification; so does the first one after a fork, which write-protects the page table
 * entries, and so do writes to pages that userfaultfd protects in its asynchronous mode. This
 * is where a merge that has armed the slot loses against the writer.
 *
 * Return: VM_FAULT_LOCKED, or VM_FAULT_NOPAGE to have the fault tried again.
 */
vm_fault_t mh_page_mkwrite(struct vm_fault *vmf)
{
	struct mh_arena *arena = vmf->vma->vm_private_data;
	vm_fault_t ret;
	int locked;

	if (!arena)
		return VM_FAULT_SIGBUS;
	locked = mh_lock_tree(arena);
	if (locked < 0)
		return VM_FAULT_SIGBUS;
	ret = mh_page_mkwrite_locked(arena, vmf, locked);
	mh_unlock_tree(arena, locked);
	return ret;
}
