// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Page faults for writing make the page table entry themselves, where they can.
 *
 * mm/ would unlock the folio, call page_mkwrite, which locks it again and asks the same
 * questions, and make an entry that allows writes. Here that is done under the first lock: the
 * page has been found to be the index's own, so what is left of page_mkwrite's work is to see
 * that nobody looks through to it, has references to it on behalf of relatives, or waits for a
 * write. If one of them does, mm/ goes on as ever.
 *
 * vm_insert_page() makes entries of a VMA that says so in its flags, with that VMA's
 * protection, and only where there is none yet: what userfaultfd has left there to protect a page
 * stays, and mm/ goes on. The VMA is a copy on the stack.
 *
 * A copy-up gives all members of a group a page in common. They get their entries at once, as each
 * would otherwise need a fault. The group is as new as the copy: whoever is to take a member out
 * of it, to remove it or to merge, waits for the folio that is still locked.
 */
#include <linux/pgtable.h>

#include "meshhelper.h"

/* The entry that mm/ would make for a write that page_mkwrite has allowed. */
static pgprot_t mh_written_prot(struct vm_area_struct *vma, struct page *page)
{
	return pte_pgprot(pte_mkdirty(mk_pte(page, vm_get_page_prot(vma->vm_flags))));
}

/* Locked memory is none, as such a VMA's entries would not be counted as locked. */
static bool mh_may_be_written(struct mh_arena *arena, struct vm_fault *vmf, pgoff_t slot)
{
	return MH_HAVE_PTE_PGPROT && vmf->flags & FAULT_FLAG_WRITE &&
	       !(vmf->vma->vm_flags & VM_LOCKED) && !mh_index_shared(arena->top, vmf->pgoff) &&
	       !xa_load(&arena->top->lent, slot) && !xa_load(&arena->armed, slot);
}

/* Return: how many entries were made. */
static unsigned int mh_map_members(struct mh_arena *arena, struct vm_area_struct *vma,
				   struct page *page, struct mh_group *group)
{
	unsigned int i, nr = 0;
	pgoff_t index;

	for (i = 0; i < group->nr; i++) {
		index = group->member[i];
		if (index < vma->vm_pgoff || index - vma->vm_pgoff >= vma_pages(vma) ||
		    mh_index_shared(arena->top, index))
			continue;
		nr += !vm_insert_page(vma, vma->vm_start +
				      ((index - vma->vm_pgoff) << PAGE_SHIFT), page);
	}
	return nr;
}

static bool mh_make_entries(struct mh_arena *arena, struct vm_fault *vmf, struct page *page,
			    struct mh_group *group)
{
	struct vm_area_struct vma = *vmf->vma;

	vm_flags_init(&vma, vma.vm_flags | VM_MIXEDMAP);
	vma.vm_page_prot = mh_written_prot(vmf->vma, page);
	if (vm_insert_page(&vma, vmf->address, page))
		return false;
	set_page_dirty(page);
	if (group)
		mh_shrink_note(arena->family, mh_map_members(arena, &vma, page, group));
	return true;
}

/**
 * mh_map_written - end a page fault for writing
 * @arena: whose
 * @vmf: the fault
 * @page: what its index shows, locked
 * @slot: its slot, the arena's own
 * @copied: is it a copy that has just been made, and has not been unlocked since?
 *
 * Context: family->tree held, if the process has relatives.
 * Return: is there an entry now? If not, the fault goes on with @page.
 */
bool mh_map_written(struct mh_arena *arena, struct vm_fault *vmf, struct page *page,
		    pgoff_t slot, bool copied)
{
	return mh_may_be_written(arena, vmf, slot) &&
	       mh_make_entries(arena, vmf, page,
			       copied ? xa_load(&arena->top->groups, slot) : NULL);
}
