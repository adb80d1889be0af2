// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Layers: which there are, what is seen through them, and how fork and exit
 * change that. See meshhelper.h for what they are.
 */
#include <linux/slab.h>

#include "meshhelper.h"

/**
 * mh_region_add - add to a region's count
 * @family: whose
 * @region: region that has a count
 * @n: how much; it can be used anew when the count is zero
 */
void mh_region_add(struct mh_family *family, pgoff_t region, long n)
{
	unsigned long count;

	xa_lock(&family->regions);
	count = xa_to_value(xa_load(&family->regions, region)) + n;
	if (count)
		__xa_store(&family->regions, region, xa_mk_value(count), GFP_NOWAIT);
	else
		__xa_erase(&family->regions, region);
	xa_unlock(&family->regions);
}

/**
 * mh_layer_create - make an empty layer that nothing is below and nobody's
 * @family: for whose store
 *
 * Context: process; sleeps.
 * Return: the layer, or NULL when memory or regions are out.
 */
struct mh_layer *mh_layer_create(struct mh_family *family)
{
	struct mh_layer *layer = kzalloc(sizeof(*layer), GFP_KERNEL_ACCOUNT);
	u32 region;

	if (!layer)
		return NULL;
	if (xa_alloc(&family->regions, &region, xa_mk_value(1),
		     XA_LIMIT(0, MH_MAX_REGIONS - 1), GFP_KERNEL_ACCOUNT)) {
		kfree(layer);
		return NULL;
	}
	layer->base = (pgoff_t)region << MH_REGION_SHIFT;
	INIT_LIST_HEAD(&layer->uppers);
	INIT_LIST_HEAD(&layer->upper_node);
	xa_init_flags(&layer->alias, XA_FLAGS_ACCOUNT);
	xa_init_flags(&layer->groups, XA_FLAGS_ACCOUNT);
	xa_init_flags(&layer->spares, XA_FLAGS_ACCOUNT);
	xa_init_flags(&layer->lent, XA_FLAGS_ACCOUNT);
	mh_count(MH_COUNT_layers, 1);
	mh_count(MH_COUNT_snapshots, 1);
	return layer;
}

/* Whose layer it is; one without an arena counts as a snapshot. */
void mh_layer_set_arena(struct mh_layer *layer, struct mh_arena *arena)
{
	mh_count(MH_COUNT_snapshots, !arena - !layer->arena);
	layer->arena = arena;
}

/* The pages are gone, or somebody else's. */
void mh_layer_free(struct mh_family *family, struct mh_layer *layer)
{
	mh_region_add(family, mh_region(layer->base), -1);
	mh_alias_destroy(layer);
	mh_layer_set_arena(layer, NULL);
	mh_count(MH_COUNT_snapshots, -1);
	mh_count(MH_COUNT_layers, -1);
	kfree(layer);
}

/*
 * A slot that @layer owned is in use no more, and its page is gone. Another layer's region may have
 * the same number again, and come to this layer with pages that nobody was lent.
 */
void mh_slot_disown(struct mh_family *family, struct mh_layer *layer, pgoff_t slot)
{
	xa_erase(&layer->lent, slot);
	if (mh_region(slot) != mh_region(layer->base))
		mh_region_add(family, mh_region(slot), -1);
}

/* Free what the layer has in regions of others. */
static void mh_free_foreign(struct mh_family *family, struct mh_layer *layer)
{
	unsigned long index;
	void *entry;

	xa_for_each(&layer->alias, index, entry) {
		pgoff_t slot = xa_to_value(entry);

		cond_resched();
		/* A group's page is freed once, the slots of the rest are its spares. */
		if (mh_region(slot) == mh_region(layer->base))
			continue;
		if (mh_slot_present(family, slot))
			mh_store_free(family, slot, slot + 1);
		if (!xa_load(&layer->groups, slot))
			mh_slot_disown(family, layer, slot);
	}
	xa_for_each(&layer->groups, index, entry) {
		mh_slot_disown(family, layer, index);
		cond_resched();
	}
	xa_for_each(&layer->spares, index, entry) {
		mh_slot_disown(family, layer, index);
		cond_resched();
	}
}

static void mh_layer_destroy(struct mh_family *family, struct mh_layer *layer)
{
	mh_store_free(family, layer->base, layer->base + MH_MAX_ARENA_PAGES);
	mh_free_foreign(family, layer);
	mh_count(MH_COUNT_pages_meshed, -atomic_long_read(&layer->nr_meshed));
	mh_layer_free(family, layer);
}

/**
 * mh_layers_destroy - free layers and their pages
 * @family: whose
 * @layer: the first, linked by @lower; in no tree any more and seen by nobody
 *
 * Context: process; sleeps.
 */
void mh_layers_destroy(struct mh_family *family, struct mh_layer *layer)
{
	struct mh_layer *lower;

	for (; layer; layer = lower) {
		lower = layer->lower;
		mh_layer_destroy(family, layer);
	}
}

/**
 * mh_resolve - where the contents of an index are
 * @layer: seen from which layer
 * @index: page of the arena
 * @owner: set to the layer that has it, which may be one further down; may be NULL
 *
 * Context: any; family->tree held unless @layer has none below. The answer is stable
 * while the lock of the slot's folio is held, and else has to be asked for again then.
 * Return: a page index of the store.
 */
pgoff_t mh_resolve(struct mh_layer *layer, pgoff_t index, struct mh_layer **owner)
{
	void *entry;

	for (;; layer = layer->lower) {
		entry = xa_load(&layer->alias, index);
		if (entry || !layer->lower || index >= layer->inherit_end)
			break;
	}
	if (owner)
		*owner = layer;
	return entry ? xa_to_value(entry) : layer->base + index;
}

/* Is @index the layer's own, rather than seen in one below? */
bool mh_layer_has(struct mh_layer *layer, pgoff_t index)
{
	return !layer->lower || index >= layer->inherit_end ||
	       xa_load(&layer->alias, index);
}

/* The layer directly above that of a process; there is at most one. */
struct mh_layer *mh_layer_upper(struct mh_layer *layer)
{
	return list_first_entry_or_null(&layer->uppers, struct mh_layer, upper_node);
}

/**
 * mh_index_shared - do relatives see the same page?
 * @layer: top layer of a process
 * @index: page of its arena
 *
 * Context: family->tree held. Only a fork of this process turns false into true.
 */
bool mh_index_shared(struct mh_layer *layer, pgoff_t index)
{
	struct mh_layer *upper = mh_layer_upper(layer);

	return !mh_layer_has(layer, index) || (upper && !mh_layer_has(upper, index));
}

/* Nobody looks through any more. What has no reference by now will not get one. */
static void mh_settle_loans(struct mh_family *family, struct mh_layer *layer)
{
	unsigned long slot;
	void *entry;

	xa_for_each(&layer->lent, slot, entry) {
		if (mh_next_held(family, slot, slot) != slot)
			xa_erase(&layer->lent, slot);
		cond_resched();
	}
}

/* There may be a layer less above: what is lent, and whether faults need family->tree. */
void mh_layer_settle(struct mh_family *family, struct mh_layer *layer)
{
	if (list_empty(&layer->uppers))
		mh_settle_loans(family, layer);
	if (!layer->arena)
		return;
	/*
	 * Pairs with mh_lock_tree(): faults that need not wait for the end of what is going
	 * on here must see what has been done.
	 */
	smp_store_release(&layer->arena->related, layer->lower || !list_empty(&layer->uppers));
}

/* Context: family->tree held for writing. */
void mh_layer_put_on(struct mh_layer *upper, struct mh_layer *lower)
{
	upper->lower = lower;
	list_move(&upper->upper_node, &lower->uppers);
}

/* Nobody has written to the parent since the snapshot: it serves this fork, too. */
static bool mh_snapshot_usable(struct mh_layer *snapshot, pgoff_t inherit_end)
{
	return !snapshot->arena && snapshot->inherit_end == inherit_end &&
	       xa_empty(&snapshot->alias);
}

/*
 * What a new child's layer is put on: the parent's layer, or, when an older child looks
 * through to that one already, a snapshot between, so that the parent has to make one
 * copy only of what it changes.
 */
static struct mh_layer *mh_layer_below_child(struct mh_family *family, struct mh_layer *top,
					     pgoff_t inherit_end)
{
	struct mh_layer *older = mh_layer_upper(top), *snapshot;

	if (!older)
		return top;
	if (mh_snapshot_usable(older, inherit_end))
		return older;
	snapshot = mh_layer_create(family);
	if (!snapshot)
		return NULL;
	snapshot->inherit_end = inherit_end;
	mh_layer_put_on(snapshot, top);
	mh_layer_put_on(older, snapshot);
	return snapshot;
}

/**
 * mh_layer_fork - give a forked arena a layer that sees its parent's contents
 * @parent: arena that has a layer
 * @child: new arena
 *
 * Context: process, family->tree held for writing; sleeps. @parent's process can neither
 * fault nor merge, and none of its page table entries allows writes any more.
 * Return: 0 or -ENOMEM.
 */
int mh_layer_fork(struct mh_arena *parent, struct mh_arena *child)
{
	pgoff_t inherit_end = atomic_long_read(&parent->touched_end);
	struct mh_family *family = parent->family;
	struct mh_layer *top, *below;

	lockdep_assert_held_write(&family->tree);
	if (parent->top->lower)
		mh_collapse(family, parent->top->lower);
	top = mh_layer_create(family);
	if (!top)
		return -ENOMEM;
	below = mh_layer_below_child(family, parent->top, inherit_end);
	if (!below) {
		mh_layer_free(family, top);
		return -ENOMEM;
	}
	top->inherit_end = inherit_end;
	mh_layer_set_arena(top, child);
	child->top = top;
	atomic_long_set(&child->touched_end, inherit_end);
	mh_layer_put_on(top, below);
	mh_layer_settle(family, top);
	mh_layer_settle(family, parent->top);
	return 0;
}

/**
 * mh_layer_leave - an arena's process is gone
 * @arena: the arena
 *
 * Context: process, family->tree held for writing; sleeps.
 * Return: what nobody sees any more, linked by @lower, to be destroyed by the caller.
 */
struct mh_layer *mh_layer_leave(struct mh_arena *arena)
{
	struct mh_family *family = arena->family;
	struct mh_layer *layer = arena->top, *last, *lower;

	lockdep_assert_held_write(&family->tree);
	if (!layer)
		return NULL;
	arena->top = NULL;
	mh_layer_set_arena(layer, NULL);
	if (!list_empty(&layer->uppers)) {
		mh_collapse(family, layer);
		return NULL;
	}
	for (last = layer; (lower = last->lower); last = lower) {
		list_del(&last->upper_node);
		if (lower->arena || !list_empty(&lower->uppers))
			break;
	}
	last->lower = NULL;
	if (lower) {
		mh_layer_settle(family, lower);
		mh_collapse(family, lower);
	}
	return layer;
}
