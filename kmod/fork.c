// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fork: the child gets an arena of its own, which sees its parent's contents.
 *
 * dup_mmap() calls vm_ops->open for the child's VMA with both mmap_locks held for writing,
 * so the parent does not merge; family->tree keeps removal out. Page faults may do with
 * the lock of their VMA, and dup_mmap() takes those one by one, while the arena is forked
 * as a whole with its first VMA: so all of them are taken first. mm/ lets go of them with
 * mmap_lock. It copies no page table entries of shared mappings. The parent's are write-
 * protected, so that each first write comes to mh_page_mkwrite() and is preceded by a
 * copy-up; other threads of the parent wait for the end of the fork in their next page
 * fault. That is so for every kind of fork, raw clone() included. I/O that is going on in
 * the parent's pages does not come to mh_page_mkwrite() again, so of those the child gets
 * copies now.
 */
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmu_notifier.h>
#include <linux/pgtable.h>
#include <linux/userfaultfd_k.h>

#include "meshhelper.h"
#include "trace.h"

/* Migration would put back an entry that is as writable, or dirty, as the one that it took. */
static int mh_write_protect_pte(pte_t *pte, unsigned long addr, void *mm)
{
	pte_t entry = ptep_get(pte);

	if (mh_pte_is_migration(entry))
		return -EAGAIN;
	if (pte_present(entry) && pte_write(entry))
		ptep_set_wrprotect(mm, addr, pte);
	return 0;
}

/*
 * An entry that stays dirty could be made writable again by mprotect() or userfaultfd,
 * which take that for a sign that mh_page_mkwrite() has been asked.
 */
static int mh_clean_pte(pte_t *pte, unsigned long addr, void *mm)
{
	pte_t entry = ptep_get(pte);

	if (mh_pte_is_migration(entry))
		return -EAGAIN;
	if (!pte_present(entry) || !pte_dirty(entry))
		return 0;
	entry = ptep_get_and_clear(mm, addr, pte);
	set_page_dirty(pte_page(entry));
	set_pte_at(mm, addr, pte, pte_mkclean(entry));
	return 0;
}

/* In pieces, as mm/ does not pause on its way. */
static int mh_apply(struct vm_area_struct *vma, pte_fn_t fn)
{
	unsigned long addr, end;
	int err = 0;

	for (addr = vma->vm_start; addr < vma->vm_end && !err; addr = end) {
		end = min(addr - addr % PUD_SIZE + PUD_SIZE, vma->vm_end);
		err = apply_to_existing_page_range(vma->vm_mm, addr, end - addr, fn, vma->vm_mm);
		cond_resched();
	}
	return err;
}

/* Would it take many page tables that are not there to reach those that are? */
static bool mh_sparse(struct vm_area_struct *vma)
{
	return MH_APPLY_MAKES_TABLES &&
	       vma_pages(vma) / 16 > READ_ONCE(vma->vm_file->f_mapping->nrpages);
}

/*
 * Who mirrors the page tables has to be told, which only mm/ can do. And where there may be guard
 * pages, dup_mmap() copies all entries, and finds these only, which are not removed.
 */
static bool mh_keeps_no_entries(struct vm_area_struct *vma)
{
	return mm_has_notifiers(vma->vm_mm) || mh_sparse(vma) || vma->anon_vma ||
	       vma->vm_flags & VM_MAYBE_GUARD;
}

static void mh_zap_vma(struct vm_area_struct *vma)
{
	zap_vma_range(vma, vma->vm_start, vma->vm_end - vma->vm_start);
}

static void mh_write_protect(struct vm_area_struct *vma)
{
	if (mh_keeps_no_entries(vma) || mh_apply(vma, mh_write_protect_pte))
		mh_zap_vma(vma);
}

/* What reclaim does meanwhile may have changed the answer: then there are entries yet. */
static void mh_clean(struct vm_area_struct *vma)
{
	if (mh_keeps_no_entries(vma) || mh_apply(vma, mh_clean_pte))
		mh_zap_vma(vma);
}

/*
 * Context: the parent's mmap_lock held for writing; it is current's.
 * Return: the last VMA, or NULL if there is none.
 */
static struct vm_area_struct *mh_visit_vmas(struct mh_arena *arena,
					    void (*visit)(struct vm_area_struct *vma))
{
	VMA_ITERATOR(vmi, current->mm, 0);
	struct vm_area_struct *vma, *last = NULL;

	for_each_vma(vmi, vma) {
		if (!mh_vma_shows(vma, arena))
			continue;
		visit(vma);
		last = vma;
	}
	return last;
}

/*
 * dup_mmap() flushes the TLB at its end, and until then other threads may write to what both will
 * see. But reclaim does not wait for that when it writes out a page whose entry is clean: it takes
 * for granted that nobody can have it dirty in a TLB. So entries are cleaned after a flush. And a
 * page that is copied during the fork must not be older than what these threads have written after
 * it to others, which the child gets as they are at the end. All that a module can do for a flush
 * is to remove an entry, which flushes everything when it finds that somebody else is about to.
 */
static void mh_write_protect_arena(struct mh_arena *arena)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;

	if (WARN_ON_ONCE(arena->mm != mm))
		return mh_zap(arena->family, 0, MH_MAX_ARENA_PAGES);
	inc_tlb_flush_pending(mm);
	vma = mh_visit_vmas(arena, mh_write_protect);
	if (vma && atomic_read(&mm->mm_users) > 1)
		zap_vma_range(vma, vma->vm_start, PAGE_SIZE);
	dec_tlb_flush_pending(mm);
	mh_visit_vmas(arena, mh_clean);
}

/* Context: family->tree held for writing. */
static struct mh_arena *mh_fork_arena(struct mh_arena *parent, struct mm_struct *mm)
{
	struct mh_arena *child = mh_arena_create(parent->family, mm);

	if (!child)
		return NULL;
	mh_write_protect_arena(parent);
	if (mh_layer_fork(parent, child))
		goto free;
	if (mh_dontfork(parent, child) || mh_copy_up_held(parent))
		goto leave;
	list_add(&child->family_node, &parent->family->arenas);
	return child;

leave:
	mh_layers_destroy(child->family, mh_layer_leave(child));
free:
	mh_arena_free(child);
	return NULL;
}

static struct mh_arena *mh_find_arena(struct mh_family *family, struct mm_struct *mm)
{
	struct mh_arena *arena;

	down_read(&family->tree);
	arena = mh_arena_of_mm(family, mm);
	up_read(&family->tree);
	return arena;
}

/* The arena that a process's VMAs have so far, or a new one. */
static struct mh_arena *mh_forked_arena(struct mh_arena *parent, struct mm_struct *mm)
{
	struct mh_family *family = parent->family;
	struct mh_arena *child = mh_find_arena(family, mm);

	if (child)
		return child;
	/* This waits for page faults, and they may be waiting for family->tree. */
	mh_visit_vmas(parent, vma_start_write);
	down_write(&family->tree);
	child = mh_fork_arena(parent, mm);
	up_write(&family->tree);
	if (child)
		mh_arena_publish(child);
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
 * Cannot fail. A child that cannot be given an arena gets SIGBUS instead, never wrong
 * contents and never its parent's pages.
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
	vma->vm_private_data = mh_forked_arena(arena, vma->vm_mm);
	trace_meshhelper_fork(arena->family, vma);
	if (!vma->vm_private_data)
		mh_count(MH_COUNT_fork_failures_total, 1);
}
