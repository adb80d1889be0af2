// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Copy-up: a layer gets contents of its own for an index that it has seen in a layer
 * below so far, because that is going to change, or because its process writes.
 *
 * What is looked through to cannot change before: its owner, if there is a process,
 * has no writable page table entry for it since the fork, and copies it up into the
 * layer above before it writes, removes or merges. So a copy is always that of the
 * moment of the fork, whoever makes it and when.
 *
 * Whoever makes a copy holds the folio lock of the slot that is copied from, and
 * checks under it that the layer still looks through to that slot. So there is one
 * copy only, and the owner's group at that slot is stable: its owner would have had to
 * copy it up, too, before changing it. The new page is locked before that, so of two folio
 * locks the one of the upper layer is the outer. Nobody else takes more than one, but a merge,
 * whose slots are all of one layer, and none of them the new one.
 *
 * The indices that share the slot are copied as one; they share the copy. So a layer looks
 * through to all members of a group or to none: the owner, who writes or merges by way of
 * one of them, need not look at the others.
 *
 * References. Who looks through to a page can take references to it for reading (a pipe,
 * direct I/O), and they stay when the page table entry goes. The owner must not write to
 * such a page: it leaves it to the readers and goes on in a copy. The mark in @lent is
 * there from before the first such reference until the owner writes, whatever becomes of
 * the layer that has looked through. The owner's own references for writing are another
 * matter: what they bring belongs into the owner's page, and into nobody else's. There are
 * none while the mark is there: they come by way of mh_page_mkwrite(), which ends it, or of
 * mh_map_written(), which does nothing where there is one. Where there are some at fork, the
 * child gets its copy at once.
 *
 * Functions are called with family->tree held and no folio lock; they sleep.
 */
#include <linux/highmem.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "meshhelper.h"
#include "trace.h"

/**
 * mh_drop_spare - free the page that a late fault may have put into a spare slot
 * @family: whose store
 * @layer: the layer that has the slot
 * @slot: the slot
 *
 * It was in use when its page was asked for, and is a spare now, so nobody else would
 * free that page.
 */
void mh_drop_spare(struct mh_family *family, struct mh_layer *layer, pgoff_t slot)
{
	struct mh_arena *arena = layer->arena;

	if (!xa_load(&layer->spares, slot))
		return;
	/* A layer without a process keeps its spares. */
	if (arena)
		mutex_lock(&arena->lock);
	if (xa_load(&layer->spares, slot))
		mh_store_free(family, slot, slot + 1);
	if (arena)
		mutex_unlock(&arena->lock);
}

/* Context: lock of the alias map held, and room reserved. */
static void mh_store_hole(struct mh_layer *layer, pgoff_t index)
{
	if (!xa_load(&layer->alias, index))
		__xa_store(&layer->alias, index, xa_mk_value(layer->base + index), GFP_NOWAIT);
}

/* Let @index read as zeroes in @layer from now on, unless it has something there. */
static int mh_set_hole(struct mh_layer *layer, pgoff_t index)
{
	int err = xa_reserve(&layer->alias, index, GFP_KERNEL_ACCOUNT);

	if (err)
		return err;
	xa_lock(&layer->alias);
	mh_store_hole(layer, index);
	xa_unlock(&layer->alias);
	return 0;
}

/**
 * struct mh_copy_up - a copy-up on its way
 * @family: whose
 * @layer: gets the copy
 * @vma: whose page table entries are to be removed, if nobody's else can be concerned
 * @index: page of the arena
 * @owner: layer that has the contents so far
 * @slot: where they are
 * @from: their page
 * @to: page of @index's home in @layer
 * @hide: is it to be a hole, whatever is there?
 */
struct mh_copy_up {
	struct mh_family *family;
	struct mh_layer *layer;
	struct vm_area_struct *vma;
	pgoff_t index;
	struct mh_layer *owner;
	pgoff_t slot;
	struct page *from;
	struct page *to;
	bool hide;
};

/* Does @layer look through to the slot at @index? */
static bool mh_looks_through(struct mh_copy_up *up, pgoff_t index)
{
	struct mh_layer *owner;

	return mh_resolve(up->layer, index, &owner) == up->slot && owner == up->owner;
}

/* Is there a page that matters? What is in swap need not be read to be hidden. */
static bool mh_copy_up_needs_page(struct mh_copy_up *up)
{
	void *entry = xa_load(&up->family->store->i_pages, up->slot);

	return entry && !(up->hide && xa_is_value(entry));
}

/*
 * No page: the copy is a hole, too. The store's lock keeps a page from coming meanwhile, which
 * others might map who still look through, while the owner already takes it for its own. A
 * fault that brings one later finds the index in its new place. A copy-up of the same index
 * into a layer between may have come before the page went, so whether the slot is still the
 * one is asked when there is none.
 *
 * Return: 0, an errno, or 1 if there is a page after all.
 */
static int mh_copy_up_hole(struct mh_copy_up *up)
{
	struct xarray *pages = &up->family->store->i_pages, *alias = &up->layer->alias;
	int ret;

	if (xa_load(&up->owner->groups, up->slot) || mh_copy_up_needs_page(up))
		return 1;
	ret = xa_reserve(alias, up->index, GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret;
	xa_lock(alias);
	xa_lock_irq(pages);
	ret = mh_copy_up_needs_page(up) || !mh_looks_through(up, up->index);
	if (!ret)
		mh_store_hole(up->layer, up->index);
	xa_unlock_irq(pages);
	xa_unlock(alias);
	return ret;
}

/* The members of the owner's group that the layer still looks through to. */
static struct mh_group *mh_group_seen(struct mh_copy_up *up, struct mh_group *group)
{
	struct mh_group *seen = mh_group_alloc(group->nr);
	pgoff_t base = up->layer->base, member;
	unsigned int i;

	if (!seen)
		return NULL;
	seen->slot = base + up->index;
	seen->member[seen->nr++] = up->index;
	for (i = 0; i < group->nr; i++) {
		member = group->member[i];
		if (member == up->index || !mh_looks_through(up, member))
			continue;
		mh_group_spares(seen)[seen->nr - 1] = base + member;
		seen->member[seen->nr++] = member;
	}
	return seen;
}

/* Remove the entry of one process only; if it is in another VMA, that of relatives, too. */
static void mh_zap_index(struct mh_family *family, struct vm_area_struct *vma, pgoff_t index)
{
	if (vma && index >= vma->vm_pgoff && index - vma->vm_pgoff < vma_pages(vma))
		zap_vma_range(vma, vma->vm_start + ((index - vma->vm_pgoff) << PAGE_SHIFT),
			      PAGE_SIZE);
	else
		mh_zap(family, index, 1);
}

/* The same for all indices of the layer that show the slot, of which @index is one. */
static void mh_zap_shown(struct mh_family *family, struct vm_area_struct *vma,
			 struct mh_layer *layer, pgoff_t index, pgoff_t slot)
{
	struct mh_group *group = xa_load(&layer->groups, slot);
	unsigned int i;

	if (!group)
		mh_zap_index(family, vma, index);
	for (i = 0; group && i < group->nr; i++)
		mh_zap_index(family, vma, group->member[i]);
}

/*
 * Let the layer show the copy wherever it looks through to the slot. A group of one is none.
 * Return: at how many indices that is, or an errno.
 */
static int mh_show_copy(struct mh_copy_up *up)
{
	pgoff_t slot = up->layer->base + up->index;
	struct mh_group *group = xa_load(&up->owner->groups, up->slot), *seen = NULL;
	int err;

	if (group) {
		seen = mh_group_seen(up, group);
		if (!seen)
			return -ENOMEM;
	}
	if (!seen || seen->nr == 1) {
		kfree(seen);
		return xa_err(xa_store(&up->layer->alias, up->index, xa_mk_value(slot),
				       GFP_KERNEL_ACCOUNT)) ?: 1;
	}
	err = mh_group_reserve(up->layer, seen);
	if (err) {
		kfree(seen);
		return err;
	}
	mh_group_insert(up->layer, seen);
	atomic_long_add(seen->nr - 1, &up->layer->nr_meshed);
	mh_count(MH_COUNT_pages_meshed, seen->nr - 1);
	return seen->nr;
}

/*
 * Context: both pages locked. Memory may be allocated under the folio lock, as reclaim only
 * tries to get it.
 *
 * Return: 0, an errno, or 1 to be called again.
 */
static int mh_copy_up_locked(struct mh_copy_up *up)
{
	pgoff_t slot = up->layer->base + up->index;
	int members;

	if (!mh_looks_through(up, up->index))
		return 1;
	if (copy_mc_highpage(up->to, up->from))
		return -EHWPOISON;
	/* Nobody gets at the new page before it is unlocked. */
	members = mh_show_copy(up);
	if (members < 0)
		return members;
	flush_dcache_page(up->to);
	folio_mark_uptodate(page_folio(up->to));
	/* In no page table yet: without the mark, reclaim would drop it. */
	set_page_dirty(up->to);
	/*
	 * Entries of those who have looked through to the slot so far, by way of the layer that
	 * no longer does. A process that has nobody above it is alone in that.
	 */
	if (xa_load(&up->owner->lent, up->slot))
		mh_zap_shown(up->family, up->vma, up->layer, up->index, slot);
	mh_shrink_know(up->family);
	mh_count(MH_COUNT_copy_ups_total, 1);
	trace_meshhelper_copy_up(up->family, up->layer, up->index, up->slot, slot,
				 members);
	return 0;
}

static void mh_unlock_page(struct page *page)
{
	unlock_page(page);
	put_page(page);
}

/* Context: @up->to locked. Return: like mh_copy_up_locked(). */
static int mh_copy_up_from(struct mh_copy_up *up)
{
	int ret;

	up->from = mh_slot_lock(up->family, up->slot, SGP_CACHE);
	if (IS_ERR(up->from))
		return PTR_ERR(up->from);
	ret = mh_copy_up_locked(up);
	mh_unlock_page(up->from);
	return ret;
}

/* Return: 0 with @up->to locked; an errno; or 1 to be called again. */
static int mh_copy_up_page(struct mh_copy_up *up)
{
	pgoff_t home = up->layer->base + up->index;
	struct page *page = mh_slot_lock(up->family, home, SGP_WRITE);
	int ret;

	if (IS_ERR(page))
		return PTR_ERR(page);
	up->to = page;
	ret = mh_copy_up_from(up);
	if (!ret)
		return 0;
	up->to = NULL;
	mh_unlock_page(page);
	if (ret < 0) {
		mh_slot_forget(up->family, home);
		return ret;
	}
	/* Another member of the group was faster, or the owner has freed the slot. */
	mh_drop_spare(up->family, up->layer, home);
	mh_drop_spare(up->family, up->owner, up->slot);
	return 1;
}

/*
 * Give the layer a hole where it sees one, and else do @fn, which returns 1 to be called again.
 * Return: 0, also if there was nothing to do, or an errno.
 */
static int mh_copy_up_by(struct mh_copy_up *up, int (*fn)(struct mh_copy_up *up))
{
	int ret;

	do {
		up->slot = mh_resolve(up->layer, up->index, &up->owner);
		if (up->owner == up->layer)
			return 0;
		ret = mh_copy_up_hole(up);
		if (ret == 1)
			ret = fn(up);
	} while (ret == 1);
	return ret;
}

/*
 * Is all that is seen by way of the layer in one VMA? mremap() can give a process several of
 * the same indices. Each has a reference to the arena, and new ones are made of the one that
 * the page fault keeps locked.
 */
static bool mh_seen_in_one(struct mh_layer *layer)
{
	return list_empty(&layer->uppers) && layer->arena &&
	       kref_read(&layer->arena->ref) == 1;
}

/**
 * mh_copy_up_fault - give a layer a page of its own where it looks through to one below
 * @family: whose
 * @layer: the layer
 * @index: page of the arena
 * @vma: where the process of @layer is in a page fault; NULL in any other context
 * @copy: set to the new page, locked and with a reference, or NULL if none was made
 *
 * Return: 0, also if there was nothing to do; -ENOMEM, -EHWPOISON for a page that was lost, or
 * -EIO for one that cannot be read, with nothing changed.
 */
int mh_copy_up_fault(struct mh_family *family, struct mh_layer *layer, pgoff_t index,
		     struct vm_area_struct *vma, struct page **copy)
{
	struct mh_copy_up up = {
		.family = family,
		.layer = layer,
		.index = index,
		.vma = mh_seen_in_one(layer) ? vma : NULL,
	};
	int err = mh_copy_up_by(&up, mh_copy_up_page);

	*copy = up.to;
	return err;
}

/* The same for those who do not need the page. */
int mh_copy_up(struct mh_family *family, struct mh_layer *layer, pgoff_t index,
	       struct vm_area_struct *vma)
{
	struct page *copy;
	int err = mh_copy_up_fault(family, layer, index, vma, &copy);

	if (copy)
		mh_unlock_page(copy);
	return err;
}

/* Only who touches a page is told that it was lost; for the others it cannot be read. */
static int mh_copy_up_index(struct mh_family *family, struct mh_layer *layer, pgoff_t index)
{
	int err = mh_copy_up(family, layer, index, NULL);

	return err == -EHWPOISON ? -EIO : err;
}

/* Context: the slot is @arena's, and there can be no more references for writing. */
static int mh_copy_up_if_held(struct mh_arena *arena, pgoff_t index, pgoff_t slot)
{
	struct mh_layer *layer = arena->top;
	int err;

	if (xa_load(&layer->lent, slot) || mh_next_held(arena->family, slot, slot) != slot)
		return 0;
	err = mh_copy_up_index(arena->family, mh_layer_upper(layer), index);
	/* Of a page that was lost there is no copy, and nobody can write to it. */
	return err == -EIO ? 0 : err;
}

/* Those that are at home, and groups whose slot is of the layer's own region. */
static int mh_copy_up_held_at_home(struct mh_arena *arena)
{
	struct mh_layer *layer = arena->top;
	pgoff_t end = layer->base + MH_MAX_ARENA_PAGES, slot, index;
	struct mh_group *group;
	int err = 0;

	for (slot = mh_next_held(arena->family, layer->base, end - 1);
	     slot < end && !err;
	     slot = mh_next_held(arena->family, slot + 1, end - 1)) {
		group = xa_load(&layer->groups, slot);
		index = group ? group->member[0] : slot - layer->base;
		if (mh_layer_has(layer, index) && mh_resolve(layer, index, NULL) == slot)
			err = mh_copy_up_if_held(arena, index, slot);
	}
	return err;
}

/**
 * mh_copy_up_held - copy what a forked process has references to that may be for writing
 * @arena: its arena, with a layer above
 *
 * They were taken before the fork: afterwards a page is copied before it can be written to.
 * A process that has never had memory pinned has none such, as for the kernel's own
 * copy-on-write. The kernel marks the process before it looks for a page table entry, and by now
 * none allows writes: who has found one that still did has been seen to have left the mark.
 *
 * Context: family->tree held for writing; the process, current's, neither faults nor has it
 * page table entries that allow writes, which would be another source of references.
 * Return: 0 or -ENOMEM.
 */
int mh_copy_up_held(struct mh_arena *arena)
{
	struct mh_layer *layer = arena->top;
	unsigned long index;
	void *entry;
	int err;

	if (!mh_mm_has_pinned(current->mm))
		return 0;
	/* What has just been written to would seem to be in use. */
	mh_drain_local();
	err = mh_copy_up_held_at_home(arena);
	if (err)
		return err;
	xa_for_each(&layer->alias, index, entry) {
		pgoff_t slot = xa_to_value(entry);

		cond_resched();
		if (mh_region(slot) == mh_region(layer->base) &&
		    (slot == layer->base + index || xa_load(&layer->groups, slot)))
			continue;
		err = mh_copy_up_if_held(arena, index, slot);
		if (err)
			break;
	}
	return err;
}

/**
 * mh_leave_to_readers - give an index a copy of its page, which is lent and has references
 * @arena: the arena, whose layer has the index and which nobody looks through to there
 * @index: page of the arena
 *
 * Context: process, no folio locked; sleeps.
 * Return: 0, also if there was nothing to do; -ENOMEM, or -EIO for a page that was lost.
 */
int mh_leave_to_readers(struct mh_arena *arena, pgoff_t index)
{
	struct mh_layer *layer = arena->top;
	struct page *page;
	pgoff_t slot;
	int err = 0;

	mutex_lock(&arena->lock);
	slot = mh_resolve(layer, index, NULL);
	page = mh_slot_page(arena->family, slot);
	if (IS_ERR(page)) {
		err = PTR_ERR(page);
		goto unlock;
	}
	lock_page(page);
	if (mh_slot_page_is(arena->family, page, slot) && xa_load(&layer->lent, slot)) {
		mh_zap_shown(arena->family, NULL, layer, index, slot);
		err = mh_slot_renew(arena->family, page, slot);
		if (!err)
			xa_erase(&layer->lent, slot);
	}
	unlock_page(page);
	put_page(page);
unlock:
	mutex_unlock(&arena->lock);
	return err;
}

/* The next index in [@index, @end) that a layer may have contents for; @end if none. */
pgoff_t mh_next_content(struct mh_family *family, struct mh_layer *layer, pgoff_t index,
			pgoff_t end)
{
	unsigned long slot = layer->base + index, at = index;

	if (index < end &&
	    xa_find(&family->store->i_pages, &slot, layer->base + end - 1, XA_PRESENT))
		end = slot - layer->base;
	if (index < end && xa_find(&layer->alias, &at, end - 1, XA_PRESENT))
		end = at;
	return end;
}

/**
 * struct mh_below - the layers below one
 * @family: whose
 * @nr: how many
 * @layer: the layers, from the top down
 */
struct mh_below {
	struct mh_family *family;
	size_t nr;
	struct mh_layer *layer[];
};

static struct mh_below *mh_layers_below(struct mh_family *family, struct mh_layer *layer)
{
	struct mh_layer *lower;
	struct mh_below *below;
	size_t nr = 0;

	for (lower = layer->lower; lower; lower = lower->lower)
		nr++;
	below = kvmalloc(struct_size(below, layer, nr), GFP_KERNEL_ACCOUNT);
	if (!below)
		return NULL;
	below->family = family;
	below->nr = 0;
	for (lower = layer->lower; lower; lower = lower->lower)
		below->layer[below->nr++] = lower;
	return below;
}

/*
 * The next index in [@index, @end) that there may be something at. Others copy things up meanwhile,
 * and then free what they have copied: seen from the bottom, it is found where it was or where it
 * has gone.
 */
static pgoff_t mh_next_seen(struct mh_below *below, pgoff_t index, pgoff_t end)
{
	size_t i;

	for (i = below->nr; i--;) {
		end = mh_next_content(below->family, below->layer[i], index, end);
		/* Pairs with the locks of the alias map, for the copy, and then of the store. */
		smp_rmb();
	}
	return end;
}

/*
 * Have @fn do something to each index in a range that the layer may see something at, further down.
 * Return: 0, the first errno of @fn, -EINTR for a fatal signal, or -ENOMEM.
 */
static int mh_walk_seen(struct mh_family *family, struct mh_layer *layer, pgoff_t first,
			pgoff_t end, int (*fn)(struct mh_family *family,
					       struct mh_layer *layer, pgoff_t index))
{
	struct mh_below *below = mh_layers_below(family, layer);
	pgoff_t index;
	int err = 0;

	if (!below)
		return -ENOMEM;
	end = min(end, layer->inherit_end);
	index = mh_next_seen(below, first, end);
	for (; index < end && !err; index = mh_next_seen(below, index + 1, end)) {
		err = fatal_signal_pending(current) ? -EINTR : fn(family, layer, index);
		cond_resched();
	}
	kvfree(below);
	return err;
}

/**
 * mh_copy_up_range - make a layer independent of the ones below it in a range
 * @family: whose
 * @layer: the layer
 * @first: first index
 * @end: index after the last
 *
 * Return: 0, -ENOMEM, -EIO, or -EINTR for a fatal signal.
 */
int mh_copy_up_range(struct mh_family *family, struct mh_layer *layer, pgoff_t first,
		     pgoff_t end)
{
	return mh_walk_seen(family, layer, first, end, mh_copy_up_index);
}

/* Context: the slot's folio locked, and checked; or lost, so that nobody can copy it meanwhile. */
static int mh_hide_locked(struct mh_copy_up *up)
{
	int err = mh_set_hole(up->layer, up->index);

	if (!err && xa_load(&up->owner->lent, up->slot))
		mh_zap(up->family, up->index, 1);
	return err;
}

/*
 * A group is seen as a whole or not at all, as a copy-up for one member has to do for all: so it
 * is copied, and the caller lets the index leave it.
 *
 * Return: 0, an errno, or 1 to be called again.
 */
static int mh_hide_page(struct mh_copy_up *up)
{
	bool shared = false;
	int ret = 1;

	up->from = mh_slot_page(up->family, up->slot);
	if (up->from == ERR_PTR(-EIO) && !xa_load(&up->owner->groups, up->slot))
		return mh_hide_locked(up);
	if (IS_ERR(up->from))
		return PTR_ERR(up->from);
	lock_page(up->from);
	if (mh_slot_page_is(up->family, up->from, up->slot) && mh_looks_through(up, up->index)) {
		shared = xa_load(&up->owner->groups, up->slot);
		ret = shared ? 0 : mh_hide_locked(up);
	}
	mh_unlock_page(up->from);
	if (ret == 1)
		mh_drop_spare(up->family, up->owner, up->slot);
	if (!shared)
		return ret;
	return mh_copy_up_index(up->family, up->layer, up->index);
}

/* The same as for a copy-up, but with zeroes instead of the contents. */
static int mh_hide(struct mh_family *family, struct mh_layer *layer, pgoff_t index)
{
	struct mh_copy_up up = {
		.family = family,
		.layer = layer,
		.index = index,
		.hide = true,
	};

	return mh_copy_up_by(&up, mh_hide_page);
}

/**
 * mh_hide_range - let a layer see nothing of those below it in a range
 * @family: whose
 * @layer: the layer
 * @first: first index
 * @end: index after the last
 *
 * What it has of its own stays as it is, and so do copies of groups that it gets here.
 * Return: 0, -ENOMEM, -EIO, or -EINTR for a fatal signal.
 */
int mh_hide_range(struct mh_family *family, struct mh_layer *layer, pgoff_t first, pgoff_t end)
{
	return mh_walk_seen(family, layer, first, end, mh_hide);
}
