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
 * copy it up, too, before changing it. The new page is locked inside: nobody knows it
 * yet but who lost the race for the same copy, and waits for the outer lock.
 *
 * The indices that share the slot are copied as one; they share the copy. So a layer looks
 * through to all members of a group or to none: the owner, who writes or merges by way of
 * one of them, need not look at the others.
 *
 * Functions are called with family->tree held and no folio lock; they sleep.
 */
#include <linux/highmem.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "meshhelper.h"

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

/* Let @index read as zeroes in @layer from now on, unless it has something there. */
static int mh_set_hole(struct mh_layer *layer, pgoff_t index)
{
	int err = xa_reserve(&layer->alias, index, GFP_KERNEL_ACCOUNT);

	if (err)
		return err;
	xa_lock(&layer->alias);
	if (!xa_load(&layer->alias, index))
		__xa_store(&layer->alias, index, xa_mk_value(layer->base + index), GFP_NOWAIT);
	xa_unlock(&layer->alias);
	return 0;
}

/* Another thread may have looked through to the hole meanwhile, and made a page of it. */
static void mh_unmap_hole(struct mh_family *family, pgoff_t index, pgoff_t slot)
{
	struct folio *folio;

	/*
	 * Pairs with mh_page_current(): either that fault finds the index in its new place,
	 * or its page is found here, and locked until the page table entry is there.
	 */
	smp_mb();
	folio = filemap_lock_folio(family->store, slot);
	if (IS_ERR_OR_NULL(folio))
		return;
	mh_zap(family, index, 1);
	folio_unlock(folio);
	folio_put(folio);
}

/*
 * No page: the copy is a hole, too. A copy-up of the same index into a layer between may
 * have come before the page went, so whether @slot is still the one is asked afterwards.
 *
 * Return: 0, an errno, or 1 if there is a page after all.
 */
static int mh_copy_up_hole(struct mh_family *family, struct mh_layer *layer, pgoff_t index,
			   struct mh_layer *owner, pgoff_t slot)
{
	int err;

	if (xa_load(&owner->groups, slot) || mh_slot_present(family, slot))
		return 1;
	/*
	 * Pairs with the lock of the alias map, which orders mh_insert_seen() before the
	 * page's removal.
	 */
	smp_rmb();
	if (mh_resolve(layer, index, NULL) != slot)
		return 1;
	err = mh_set_hole(layer, index);
	if (!err)
		mh_unmap_hole(family, index, slot);
	return err;
}

/* The members of the owner's group that @layer still looks through to. */
static struct mh_group *mh_group_seen(struct mh_layer *layer, struct mh_layer *owner,
				      pgoff_t index, pgoff_t slot)
{
	struct mh_group *group = xa_load(&owner->groups, slot), *seen;
	unsigned int i;

	seen = mh_group_alloc(group ? group->nr : 1);
	if (!seen)
		return NULL;
	seen->slot = layer->base + index;
	seen->member[seen->nr++] = index;
	for (i = 0; group && i < group->nr; i++) {
		pgoff_t member = group->member[i];
		struct mh_layer *from;

		if (member == index || mh_resolve(layer, member, &from) != slot || from != owner)
			continue;
		mh_group_spares(seen)[seen->nr - 1] = layer->base + member;
		seen->member[seen->nr++] = member;
	}
	return seen;
}

/* Page table entries of those who have looked through to @slot so far. */
static void mh_unlend(struct mh_family *family, struct mh_group *seen, pgoff_t slot)
{
	unsigned int i;

	if (!xa_load(&family->lent, slot))
		return;
	for (i = 0; i < seen->nr; i++)
		mh_zap(family, seen->member[i], 1);
	xa_erase(&family->lent, slot);
}

/* A group of one is none. */
static int mh_insert_seen(struct mh_layer *layer, struct mh_group *seen)
{
	int err;

	if (seen->nr > 1) {
		err = mh_group_reserve(layer, seen);
		if (err)
			return err;
		mh_group_insert(layer, seen);
		atomic_long_add(seen->nr - 1, &layer->nr_meshed);
		mh_count(MH_COUNT_pages_meshed, seen->nr - 1);
		return 0;
	}
	return xa_err(xa_store(&layer->alias, seen->member[0], xa_mk_value(seen->slot),
			       GFP_KERNEL_ACCOUNT));
}

/*
 * Context: both pages locked, and checked. Memory may be allocated under the folio lock,
 * as reclaim only tries to get it.
 */
static int mh_copy_up_locked(struct mh_family *family, struct mh_layer *layer,
			     struct mh_layer *owner, pgoff_t index, pgoff_t slot,
			     struct page *from, struct page *to)
{
	struct mh_group *seen = mh_group_seen(layer, owner, index, slot);
	int err;

	if (!seen)
		return -ENOMEM;
	copy_highpage(to, from);
	flush_dcache_page(to);
	/* In no page table yet: without the mark, reclaim would drop it. */
	set_page_dirty(to);
	err = mh_insert_seen(layer, seen);
	if (!err) {
		mh_unlend(family, seen, slot);
		mh_count(MH_COUNT_copy_ups_total, 1);
	}
	if (err || seen->nr == 1)
		kfree(seen);
	return err;
}

/* Context: @from locked. Return: 0, an errno, or 1 to be called again. */
static int mh_copy_up_from(struct mh_family *family, struct mh_layer *layer,
			   struct mh_layer *owner, pgoff_t index, pgoff_t slot,
			   struct page *from, struct page *to)
{
	struct mh_layer *now;
	int ret = 1;

	if (!mh_slot_page_is(family, from, slot) ||
	    mh_resolve(layer, index, &now) != slot || now != owner)
		return 1;
	lock_page(to);
	if (mh_slot_page_is(family, to, layer->base + index))
		ret = mh_copy_up_locked(family, layer, owner, index, slot, from, to);
	unlock_page(to);
	/* The slot is nobody's still: what is in it must not turn up in a hole later. */
	if (ret < 0)
		mh_store_free(family, layer->base + index, layer->base + index + 1);
	return ret;
}

static int mh_copy_up_page(struct mh_family *family, struct mh_layer *layer,
			   struct mh_layer *owner, pgoff_t index, pgoff_t slot)
{
	struct page *from, *to;
	int ret;

	from = mh_slot_page(family, slot);
	if (IS_ERR(from))
		return PTR_ERR(from);
	to = mh_slot_page(family, layer->base + index);
	if (IS_ERR(to)) {
		put_page(from);
		return PTR_ERR(to);
	}
	lock_page(from);
	ret = mh_copy_up_from(family, layer, owner, index, slot, from, to);
	unlock_page(from);
	put_page(to);
	put_page(from);
	/* Another member of the group was faster, or the owner has freed the slot. */
	if (ret == 1) {
		mh_drop_spare(family, layer, layer->base + index);
		mh_drop_spare(family, owner, slot);
	}
	return ret;
}

/**
 * mh_copy_up - give a layer a page of its own where it looks through to one below
 * @family: whose
 * @layer: the layer
 * @index: page of the arena
 *
 * Return: 0, also if there was nothing to do; -ENOMEM, or -EIO for a page that was lost,
 * with nothing changed.
 */
int mh_copy_up(struct mh_family *family, struct mh_layer *layer, pgoff_t index)
{
	struct mh_layer *owner;
	pgoff_t slot;
	int ret;

	do {
		slot = mh_resolve(layer, index, &owner);
		if (owner == layer)
			return 0;
		ret = mh_copy_up_hole(family, layer, index, owner, slot);
		if (ret == 1)
			ret = mh_copy_up_page(family, layer, owner, index, slot);
	} while (ret == 1);
	return ret;
}

/* The next index in [@index, @end) that a layer may have contents for; @end if none. */
static pgoff_t mh_next_content(struct mh_family *family, struct mh_layer *layer,
			       pgoff_t index, pgoff_t end)
{
	unsigned long slot = layer->base + index, at = index;

	if (index < end &&
	    xa_find(&family->store->i_pages, &slot, layer->base + end - 1, XA_PRESENT))
		end = slot - layer->base;
	if (index < end && xa_find(&layer->alias, &at, end - 1, XA_PRESENT))
		end = at;
	return end;
}

/* The next index in [@index, @end) that @layer may see something at, further down. */
static pgoff_t mh_next_seen(struct mh_family *family, struct mh_layer *layer, pgoff_t index,
			    pgoff_t end)
{
	while ((layer = layer->lower))
		end = mh_next_content(family, layer, index, end);
	return end;
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
	pgoff_t index;
	int err = 0;

	end = min(end, layer->inherit_end);
	index = mh_next_seen(family, layer, first, end);
	for (; index < end && !err; index = mh_next_seen(family, layer, index + 1, end)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		err = mh_copy_up(family, layer, index);
		cond_resched();
	}
	return err;
}

/* Context: the slot's folio locked, and checked. */
static int mh_hide_locked(struct mh_family *family, struct mh_layer *layer, pgoff_t index)
{
	int err = mh_set_hole(layer, index);

	if (!err)
		mh_zap(family, index, 1);
	return err;
}

/*
 * The same as for a copy-up, but with zeroes instead of the contents. A group is seen as a
 * whole or not at all, as a copy-up for one member has to do for all: so it is copied, and
 * the caller lets the index leave it.
 *
 * Return: 0, an errno, or 1 to be called again.
 */
static int mh_hide(struct mh_family *family, struct mh_layer *layer, pgoff_t index)
{
	struct mh_layer *owner, *now;
	struct page *from;
	bool shared = false;
	pgoff_t slot;
	int ret = 1;

	slot = mh_resolve(layer, index, &owner);
	if (owner == layer)
		return 0;
	from = mh_slot_page(family, slot);
	if (IS_ERR(from))
		return PTR_ERR(from);
	lock_page(from);
	if (mh_slot_page_is(family, from, slot) &&
	    mh_resolve(layer, index, &now) == slot && now == owner) {
		shared = xa_load(&owner->groups, slot);
		ret = shared ? 0 : mh_hide_locked(family, layer, index);
	}
	unlock_page(from);
	put_page(from);
	if (ret == 1)
		mh_drop_spare(family, owner, slot);
	return shared ? mh_copy_up(family, layer, index) : ret;
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
	pgoff_t index;
	int ret = 0;

	end = min(end, layer->inherit_end);
	index = mh_next_seen(family, layer, first, end);
	while (index < end && ret >= 0) {
		if (fatal_signal_pending(current))
			return -EINTR;
		ret = mh_hide(family, layer, index);
		if (!ret)
			index = mh_next_seen(family, layer, index + 1, end);
		cond_resched();
	}
	return min(ret, 0);
}
