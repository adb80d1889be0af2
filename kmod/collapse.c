// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Collapsing: a layer without a process and with only one layer above it is of use to
 * that one alone, so both become one.
 *
 * The lower keeps its region, as most of its slots are still seen, and those of the
 * oldest layer are where the reverse map finds them; it takes over what the upper has,
 * and frees what that has hidden. The slots taken over are in the upper's region, which
 * therefore must not be used anew before the last of them is gone: regions are counted.
 *
 * All is done with family->tree held for writing, so none of the processes that see
 * these layers is in the middle of a fault. Their page table entries stay.
 */
#include <linux/sched.h>

#include "meshhelper.h"
#include "trace.h"

/*
 * The next index from @index on that is @layer's own, but not by an entry: one at home
 * that has a page. ULONG_MAX if there is none.
 */
static pgoff_t mh_next_at_home(struct mh_family *family, struct mh_layer *layer,
			       pgoff_t index)
{
	unsigned long slot = layer->base + index;
	pgoff_t last = layer->base + MH_MAX_ARENA_PAGES - 1;

	for (; xa_find(&family->store->i_pages, &slot, last, XA_PRESENT); slot++)
		if (!xa_load(&layer->alias, slot - layer->base))
			return slot - layer->base;
	return ULONG_MAX;
}

/* Let @to have room for all that @from has. */
static int mh_reserve_all(struct xarray *to, struct xarray *from)
{
	unsigned long at;
	void *entry;
	int err;

	xa_for_each(from, at, entry) {
		err = xa_reserve(to, at, GFP_KERNEL_ACCOUNT);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

/* Make sure that mh_absorb() needs no memory. What is reserved in vain does no harm. */
static int mh_absorb_prepare(struct mh_family *family, struct mh_layer *lower,
			     struct mh_layer *upper)
{
	unsigned long index;
	int err;

	err = mh_reserve_all(&lower->alias, &upper->alias) ?:
	      mh_reserve_all(&lower->groups, &upper->groups) ?:
	      mh_reserve_all(&lower->spares, &upper->spares) ?:
	      mh_reserve_all(&lower->lent, &upper->lent);
	index = mh_next_at_home(family, upper, upper->inherit_end);
	for (; index != ULONG_MAX && !err; index = mh_next_at_home(family, upper, index + 1)) {
		err = xa_reserve(&lower->alias, index, GFP_KERNEL_ACCOUNT);
		cond_resched();
	}
	return err;
}

/* Free the page of an index that nobody sees any more; the index keeps a slot. */
static void mh_layer_discard(struct mh_family *family, struct mh_layer *layer, pgoff_t index)
{
	pgoff_t slot = mh_resolve(layer, index, NULL);

	if (xa_load(&layer->groups, slot))
		mh_group_leave(layer, index);
	else if (mh_slot_present(family, slot))
		mh_store_free(family, slot, slot + 1);
}

/* What the lower layer's process has made after its last fork, nobody else sees. */
static void mh_discard_from(struct mh_family *family, struct mh_layer *layer, pgoff_t first)
{
	pgoff_t index;
	void *entry;

	xa_for_each_start(&layer->alias, index, entry, first) {
		mh_layer_discard(family, layer, index);
		cond_resched();
	}
	/*
	 * An index below @first that shows a slot of these has been merged since the fork, so
	 * the upper layer has it and nobody sees it here, either.
	 */
	mh_store_free(family, layer->base + first, layer->base + MH_MAX_ARENA_PAGES);
}

/* @upper's slot is another layer's from now on: one reason more to keep its region. */
static void mh_slot_pass_on(struct mh_family *family, struct mh_layer *upper, pgoff_t slot)
{
	if (mh_region(slot) == mh_region(upper->base))
		mh_region_add(family, mh_region(slot), 1);
}

/* Let @lower show @slot, which is in @upper's possession, at @index. */
static void mh_absorb_index(struct mh_family *family, struct mh_layer *lower,
			    struct mh_layer *upper, pgoff_t index, pgoff_t slot)
{
	if (mh_layer_has(lower, index)) {
		if (index < upper->inherit_end)
			mh_layer_discard(family, lower, index);
		mh_slot_disown(family, lower, mh_resolve(lower, index, NULL));
	}
	WARN_ON_ONCE(xa_err(xa_store(&lower->alias, index, xa_mk_value(slot), GFP_NOWAIT)));
	if (!xa_load(&upper->groups, slot))
		mh_slot_pass_on(family, upper, slot);
}

static void mh_absorb_groups(struct mh_family *family, struct mh_layer *lower,
			     struct mh_layer *upper)
{
	struct mh_group *group;
	unsigned long slot;
	void *entry;

	xa_for_each(&upper->groups, slot, group) {
		xa_erase(&upper->groups, slot);
		xa_store(&lower->groups, slot, group, GFP_NOWAIT);
		mh_slot_pass_on(family, upper, slot);
		cond_resched();
	}
	xa_for_each(&upper->spares, slot, entry) {
		xa_store(&lower->spares, slot, entry, GFP_NOWAIT);
		mh_slot_pass_on(family, upper, slot);
		cond_resched();
	}
	xa_for_each(&upper->lent, slot, entry) {
		xa_store(&lower->lent, slot, entry, GFP_NOWAIT);
		cond_resched();
	}
	atomic_long_add(atomic_long_read(&upper->nr_meshed), &lower->nr_meshed);
}

static void mh_absorb(struct mh_family *family, struct mh_layer *lower, struct mh_layer *upper)
{
	unsigned long index;
	void *entry;

	mh_discard_from(family, lower, upper->inherit_end);
	xa_for_each(&upper->alias, index, entry) {
		mh_absorb_index(family, lower, upper, index, xa_to_value(entry));
		cond_resched();
	}
	index = mh_next_at_home(family, upper, upper->inherit_end);
	for (; index != ULONG_MAX; index = mh_next_at_home(family, upper, index + 1)) {
		mh_absorb_index(family, lower, upper, index, upper->base + index);
		cond_resched();
	}
	mh_absorb_groups(family, lower, upper);
}

/**
 * mh_collapse - make a layer and the only one on it one, unless a process goes on in it
 * @family: whose
 * @layer: the lower one; the upper is freed
 *
 * Memory may be out for that: then it stays as it is until fork or exit come by again.
 *
 * Context: process, family->tree held for writing; sleeps.
 */
void mh_collapse(struct mh_family *family, struct mh_layer *layer)
{
	struct mh_layer *upper, *next, *tmp;

	if (layer->arena || !list_is_singular(&layer->uppers))
		return;
	upper = mh_layer_upper(layer);
	if (mh_absorb_prepare(family, layer, upper))
		return;
	mh_absorb(family, layer, upper);
	list_del(&upper->upper_node);
	list_for_each_entry_safe(next, tmp, &upper->uppers, upper_node)
		mh_layer_put_on(next, layer);
	/* What an older sibling never saw of a snapshot it must not see below that, either. */
	layer->inherit_end = min(layer->inherit_end, upper->inherit_end);
	mh_layer_set_arena(layer, upper->arena);
	if (layer->arena)
		layer->arena->top = layer;
	mh_layer_settle(family, layer);
	trace_meshhelper_collapse(family, layer->base, upper->base, !layer->arena);
	mh_layer_free(family, upper);
}
