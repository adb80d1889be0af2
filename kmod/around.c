// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Fault-around: a page fault for reading in a process that has relatives maps what is
 * around it, too. The page tables of a forked child are empty; without this, each page
 * that it reads would take a page fault.
 *
 * filemap_map_pages() maps what the page cache has at the offsets of the VMA, by locking
 * each folio in turn. So it is asked for runs of indices whose slots have their numbers:
 * those at home in the family's first region, seen in whatever layer. It does not
 * ask us again under the folio's lock whether they still are; instead family->tree is held
 * for writing. All who change what relatives see hold it for reading: copy-up, removal from
 * before its window opens until after it is closed, and merges; fork and exit for
 * writing. So no slot changes between our look at it and its page table entry, no window is
 * open, and who copies a page up later finds it marked as lent. It is only tried for, as
 * long as others are at work here faults do without.
 *
 * The entries allow no writes: the fault is one for reading.
 */
#include <linux/userfaultfd_k.h>

#include "meshhelper.h"

/* Pages that are looked at, a power of 2 and no more than a page table has: 64 KiB as in mm/. */
#define MH_AROUND_PAGES	16UL

/* Mark slots as seen through a layer above their owner's. Return: 0 or -ENOMEM. */
static int mh_lend_range(struct mh_layer *owner, pgoff_t first, pgoff_t end)
{
	XA_STATE(xas, &owner->lent, first);

	do {
		xas_lock(&xas);
		for (xas_load(&xas); xas.xa_index < end; xas_next(&xas)) {
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
 * Where the run from @first on ends whose slots have the numbers of its indices. They are
 * marked as lent then, whether there are pages or not; if that fails the run is empty.
 */
static pgoff_t mh_end_of_run(struct mh_arena *arena, pgoff_t first, pgoff_t end)
{
	struct mh_layer *owner = mh_owner_of_run(arena->top, first, &end);

	if (mh_resolve(owner, first, NULL) != first)
		return first;
	if (owner != arena->top && mh_lend_range(owner, first, end))
		return first;
	return end;
}

/* Context: family->tree held for writing. */
static vm_fault_t mh_map_runs(struct mh_arena *arena, struct vm_fault *vmf, pgoff_t first,
			      pgoff_t end)
{
	vm_fault_t ret = 0;
	pgoff_t next;

	for (; first < end; first = max(next, first + 1)) {
		next = mh_end_of_run(arena, first, end);
		if (next > first)
			ret |= filemap_map_pages(vmf, first, next - 1);
	}
	vmf->pte = NULL;
	return ret;
}

/**
 * mh_fault_around - map pages around an address
 * @arena: an arena that has relatives
 * @vmf: a page fault in it, with an empty page table entry
 *
 * A userfaultfd has something to say about each page, so there it is not done.
 *
 * Context: family->tree not held, and held for reading on return.
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
	    !down_write_trylock(tree)) {
		down_read(tree);
		return false;
	}
	from = max(vmf->address & mask, vma->vm_start);
	to = min((vmf->address & mask) - mask, vma->vm_end);
	ret = mh_map_runs(arena, vmf, linear_page_index(vma, from),
			  min(linear_page_index(vma, to), MH_MAX_ARENA_PAGES));
	downgrade_write(tree);
	return ret & VM_FAULT_NOPAGE;
}
