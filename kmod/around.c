// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Fault-around: a page fault for reading in a process that has relatives maps what is
 * around it, too. The page tables of a forked child are empty; without this, each page
 * that it reads would take a page fault.
 *
 * filemap_map_pages() maps what the page cache has at the offsets of the VMA, by locking
 * each folio in turn. So it is asked for runs of indices whose slots follow each other, in
 * whatever layer and region, and is given a VMA and a fault that are made for the run: as if
 * the run had been split off the real VMA, but with the offset of its first slot. Neither leaves
 * the stack. What becomes of such an entry is up to the real VMA and to the page, as it is for
 * one that a fault has made.
 *
 * It does not ask us again under the folio's lock whether the slots still are the right ones;
 * instead family->tree is held for writing. All who change what relatives see hold it for
 * reading: copy-up, removal from before its window opens until after it is closed, and merges;
 * fork, exit and collapse for writing. Who does not hold it is a process without relatives, and
 * that changes slots that nobody else sees. So no slot changes between our look at it and its
 * page table entry, no window is open, and who copies a page up later finds it marked as lent.
 * It is only tried for, as long as others are at work here faults do without.
 *
 * The entries allow no writes: the fault is one for reading.
 */
#include <linux/userfaultfd_k.h>

#include "meshhelper.h"

/* Pages that are looked at, a power of 2 and no more than a page table has: 64 KiB as in mm/. */
#define MH_AROUND_PAGES	16UL

/**
 * struct mh_around - a fault-around on its way
 * @arena: whose
 * @vmf: the page fault
 * @vma: what the run below would be as a VMA of its own
 * @index: first index of the run
 * @slot: its slot
 * @nr: indices in the run
 * @result: VM_FAULT_NOPAGE when the page of the fault has been mapped
 */
struct mh_around {
	struct mh_arena *arena;
	struct vm_fault *vmf;
	struct vm_area_struct vma;
	pgoff_t index;
	pgoff_t slot;
	unsigned long nr;
	vm_fault_t result;
};

/* Mark slots as seen through a layer above their owner's. Return: 0 or -ENOMEM. */
static int mh_lend_range(struct mh_layer *owner, pgoff_t first, pgoff_t end)
{
	XA_STATE(xas, &owner->lent, first);
	void *entry;

	do {
		xas_lock(&xas);
		for (entry = xas_load(&xas); xas.xa_index < end; entry = xas_next(&xas)) {
			/* What collapse.c has reserved is not NULL here, but no mark. */
			if (!xa_is_value(entry))
				xas_store(&xas, xa_mk_value(1));
			if (xas_error(&xas))
				break;
		}
		xas_unlock(&xas);
	} while (xas_nomem(&xas, GFP_KERNEL));
	return xas_error(&xas);
}

/* Which layer has @index; *@end is cut to where the alias maps on the way have an entry. */
static struct mh_layer *mh_owner_of_run(struct mh_layer *layer, pgoff_t index, pgoff_t *end)
{
	unsigned long at;

	for (;; layer = layer->lower) {
		at = index;
		if (xa_find(&layer->alias, &at, *end - 1, XA_PRESENT))
			*end = max(at, index + 1);
		if (!mh_layer_has(layer, index))
			*end = min(*end, layer->inherit_end);
		else
			return layer;
	}
}

/*
 * Where the run from @first on ends whose slots follow @slot, that of @first. They are
 * marked as lent then, whether there are pages or not; if that fails the run is empty.
 */
static pgoff_t mh_end_of_run(struct mh_arena *arena, pgoff_t first, pgoff_t end, pgoff_t *slot)
{
	struct mh_layer *owner = mh_owner_of_run(arena->top, first, &end);

	*slot = mh_resolve(owner, first, NULL);
	if (owner != arena->top && mh_lend_range(owner, *slot, *slot + end - first))
		return first;
	return end;
}

/*
 * The page table is there, or in @prealloc_pte, as mm/ makes one before it asks for the fault. The
 * run is shorter than a huge page, so no such is mapped, wherever its slots are.
 */
static void mh_map_run(struct mh_around *around)
{
	struct vm_area_struct *vma = around->vmf->vma;
	struct vm_fault fault = {
		.vma = &around->vma,
		.gfp_mask = around->vmf->gfp_mask,
		.pgoff = around->vmf->pgoff,
		.address = around->vmf->address,
		.real_address = around->vmf->real_address,
		.flags = around->vmf->flags,
		.pmd = around->vmf->pmd,
		.pud = around->vmf->pud,
		.orig_pte = around->vmf->orig_pte,
		.prealloc_pte = around->vmf->prealloc_pte,
	};

	if (!around->nr)
		return;
	around->vma.vm_start = vma->vm_start + ((around->index - vma->vm_pgoff) << PAGE_SHIFT);
	around->vma.vm_end = around->vma.vm_start + (around->nr << PAGE_SHIFT);
	around->vma.vm_pgoff = around->slot;
	around->result |= filemap_map_pages(&fault, around->slot, around->slot + around->nr - 1);
	around->vmf->prealloc_pte = fault.prealloc_pte;
	if (around->slot != around->index)
		mh_shrink_note(around->arena->family, around->nr);
	around->nr = 0;
}

/* Context: family->tree held for writing. */
static vm_fault_t mh_map_runs(struct mh_arena *arena, struct vm_fault *vmf, pgoff_t first,
			      pgoff_t end)
{
	struct mh_around around = { .arena = arena, .vmf = vmf, .vma = *vmf->vma };
	pgoff_t next, slot;

	for (; first < end; first = next) {
		next = mh_end_of_run(arena, first, end, &slot);
		if (next == first)
			break;
		if (!around.nr || slot != around.slot + around.nr) {
			mh_map_run(&around);
			around.index = first;
			around.slot = slot;
		}
		around.nr += next - first;
	}
	mh_map_run(&around);
	return around.result;
}

/**
 * mh_fault_around - map pages around an address
 * @arena: an arena that has relatives
 * @vmf: a page fault in it, with an empty page table entry
 *
 * A userfaultfd has something to say about each page, so there it is not done.
 *
 * Context: family->tree not held.
 * Return: is the page of the fault among what was mapped?
 */
bool mh_fault_around(struct mh_arena *arena, struct vm_fault *vmf)
{
	unsigned long mask = -(MH_AROUND_PAGES << PAGE_SHIFT);
	struct rw_semaphore *tree = &arena->family->tree;
	struct vm_area_struct *vma = vmf->vma;
	unsigned long from, to;
	vm_fault_t ret;

	if (vmf->flags & FAULT_FLAG_WRITE || userfaultfd_armed(vma) ||
	    !down_write_trylock(tree))
		return false;
	from = max(vmf->address & mask, vma->vm_start);
	to = min((vmf->address & mask) - mask, vma->vm_end);
	ret = mh_map_runs(arena, vmf, linear_page_index(vma, from),
			  min(linear_page_index(vma, to), MH_MAX_ARENA_PAGES));
	up_write(tree);
	return ret & VM_FAULT_NOPAGE;
}
