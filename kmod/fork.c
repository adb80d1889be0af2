// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fork: the child gets an arena of its own.
 *
 * dup_mmap() calls vm_ops->open for the child's VMA with both mmap_locks held for
 * writing, so the parent neither faults nor merges; arena->lock keeps removal out.
 * Other threads of the parent could still write through the PTEs they have, so these
 * are removed: the threads wait for the end of the fork in their next page fault, and
 * the copy is that of one moment. The parent's pages are copied here and now: correct
 * for every kind of fork, raw clone() included, at the price of copying what may never
 * be used.
 *
 * The child sees the same aliases: a page that two indices share is copied once.
 */
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/sched/signal.h>
#include <linux/userfaultfd_k.h>

#include "meshhelper.h"

static int mh_fork_page(struct mh_arena *child, struct mh_arena *parent, pgoff_t slot)
{
	struct page *from, *to;
	int err = 0;

	from = mh_slot_page(parent, slot);
	if (IS_ERR(from))
		return PTR_ERR(from);
	to = mh_slot_page(child, slot);
	if (IS_ERR(to)) {
		err = PTR_ERR(to);
		goto put_from;
	}
	/* The copy is in no page table yet: without the mark, reclaim drops it. */
	lock_page(to);
	copy_highpage(to, from);
	set_page_dirty(to);
	unlock_page(to);
	put_page(to);
	mh_count(MH_COUNT_fork_pages_copied_total, 1);
put_from:
	put_page(from);
	return err;
}

static int mh_fork_pages(struct mh_arena *child, struct mh_arena *parent)
{
	struct xarray *pages = &mh_store_mapping(parent)->i_pages;
	unsigned long slot = 0;
	int err;

	/* Entries of pages in swap are present, too. */
	for (; xa_find(pages, &slot, ULONG_MAX, XA_PRESENT); slot++) {
		if (fatal_signal_pending(current))
			return -EINTR;
		err = mh_fork_page(child, parent, slot);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

static int mh_fork_contents(struct mh_arena *child, struct mh_arena *parent)
{
	int err;

	mutex_lock(&parent->lock);
	/* current is the parent; alone, it writes nothing while it is here. */
	if (atomic_read(&current->mm->mm_users) > 1)
		mh_zap(parent, 0, MH_MAX_ARENA_PAGES);
	err = mh_alias_copy(child, parent);
	if (!err)
		err = mh_fork_pages(child, parent);
	atomic64_set(&child->nr_meshed, atomic64_read(&parent->nr_meshed));
	mh_count(MH_COUNT_pages_meshed, atomic64_read(&child->nr_meshed));
	mutex_unlock(&parent->lock);
	return err;
}

static struct mh_arena *mh_fork_arena(struct mh_arena *parent, struct mm_struct *mm)
{
	struct mh_arena *child;
	struct file *store;

	store = mh_store_create();
	if (IS_ERR(store))
		return NULL;
	child = mh_arena_create(parent->family, mm, store);
	fput(store);
	if (child && mh_fork_contents(child, parent)) {
		mh_arena_put(child);
		child = NULL;
	}
	return child;
}

/*
 * A userfaultfd that follows forks would have dup_mmap() copy PTEs, and with them
 * the parent's pages, into the child.
 */
static void mh_drop_uffd(struct vm_area_struct *vma)
{
	vma->vm_userfaultfd_ctx = NULL_VM_UFFD_CTX;
	vm_flags_clear(vma, __VM_UFFD_FLAGS);
}

/**
 * mh_vm_open - vm_ops->open of an arena
 * @vma: a copy of one of the arena's VMAs: by split or mremap in the same process,
 *	or by fork in a new one
 *
 * Cannot fail. A child whose copy cannot be made gets SIGBUS on its arena, never
 * wrong contents and never its parent's pages.
 */
void mh_vm_open(struct vm_area_struct *vma)
{
	struct mh_arena *arena = vma->vm_private_data;

	if (!arena)
		return;
	if (arena->mm == vma->vm_mm) {
		kref_get(&arena->ref);
		return;
	}
	mh_drop_uffd(vma);
	mh_count(MH_COUNT_forks_total, 1);
	vma->vm_private_data = mh_arena_of_mm(arena->family, vma->vm_mm) ?:
			       mh_fork_arena(arena, vma->vm_mm);
	if (!vma->vm_private_data)
		mh_count(MH_COUNT_fork_failures_total, 1);
}
