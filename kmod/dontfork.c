// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * What a child does not get at fork: what its parent has marked by madvise(MADV_DONTFORK),
 * or unmapped without removing it.
 *
 * The child has no mapping there, but it can enlarge a neighbouring one over the gap, and
 * would see its parent's pages, as its layer does. So what none of its mappings shows is
 * removed from the child's arena before anybody can fault in it.
 */
#include <linux/slab.h>
#include <linux/sort.h>

#include "meshhelper.h"

/**
 * struct mh_range - indices that a mapping shows
 * @first: the first of them
 * @end: the one after the last
 */
struct mh_range {
	pgoff_t first;
	pgoff_t end;
};

static int mh_range_cmp(const void *a, const void *b)
{
	const struct mh_range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* Which mappings of @arena the child gets; @ranges may be NULL. Returns their number. */
static size_t mh_forked_ranges(struct mh_arena *arena, struct mh_range *ranges)
{
	VMA_ITERATOR(vmi, current->mm, 0);
	struct vm_area_struct *vma;
	size_t nr = 0;

	for_each_vma(vmi, vma) {
		if (!mh_vma_shows(vma, arena) || vma->vm_flags & VM_DONTCOPY)
			continue;
		if (ranges) {
			ranges[nr].first = vma->vm_pgoff;
			ranges[nr].end = vma->vm_pgoff + vma_pages(vma);
		}
		nr++;
	}
	return nr;
}

/* Beyond what the child inherits there is nothing to take away. */
static int mh_remove_gap(struct mh_arena *child, pgoff_t first, pgoff_t end)
{
	end = min(end, child->top->inherit_end);
	return first < end ? mh_remove_unmapped(child, first, end) : 0;
}

/* What is between ranges, which are in order but may overlap. */
static int mh_remove_between(struct mh_arena *child, struct mh_range *ranges, size_t nr)
{
	pgoff_t at = 0;
	int err = 0;
	size_t i;

	for (i = 0; i < nr && !err; i++) {
		err = mh_remove_gap(child, at, ranges[i].first);
		at = max(at, ranges[i].end);
	}
	return err ?: mh_remove_gap(child, at, MH_MAX_ARENA_PAGES);
}

/**
 * mh_dontfork - take from a new child what it is not to see of its parent
 * @parent: whose arena is that of current
 * @child: has a layer, but is in no page fault yet
 *
 * Context: the parent's mmap_lock and family->tree held for writing; sleeps.
 * Return: 0, -ENOMEM, -EIO, or -EINTR for a fatal signal.
 */
int mh_dontfork(struct mh_arena *parent, struct mh_arena *child)
{
	size_t nr = mh_forked_ranges(parent, NULL);
	struct mh_range *ranges;
	int err;

	ranges = kvmalloc_array(nr, sizeof(*ranges), GFP_KERNEL);
	if (!ranges)
		return -ENOMEM;
	mh_forked_ranges(parent, ranges);
	sort(ranges, nr, sizeof(*ranges), mh_range_cmp, NULL);
	err = mh_remove_between(child, ranges, nr);
	kvfree(ranges);
	return err;
}
