// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * The alias map of a layer: which slot of the store each of its indices shows, and the
 * groups of those that share one.
 *
 * Every member of a group has an entry in the alias map, also the one that is at home.
 * So changing the slot of a member never allocates, and neither leaving a group nor
 * committing a join can fail.
 *
 * Everything is called with the lock of the layer's arena held, or, for a layer that is
 * not a process's, with family->tree held for writing; but see copyup.c.
 */
#include <linux/slab.h>

#include "meshhelper.h"

static unsigned int mh_group_size(struct mh_group *group)
{
	return group ? group->nr : 1;
}

/* An empty group with room for @nr members, or NULL; freed by kfree(). */
struct mh_group *mh_group_alloc(unsigned int nr)
{
	struct mh_group *group = kzalloc(struct_size(group, member, 2 * nr),
					 GFP_KERNEL_ACCOUNT);

	if (group)
		group->capacity = nr;
	return group;
}

/* The spare slots of a group: one less than it has members. */
pgoff_t *mh_group_spares(struct mh_group *group)
{
	return group->member + group->capacity;
}

/* Overwrite an entry that exists or is reserved: cannot fail. */
static void mh_overwrite(struct xarray *xa, pgoff_t at, void *entry)
{
	WARN_ON_ONCE(xa_err(xa_store(xa, at, entry, GFP_NOWAIT)));
}

/**
 * mh_group_reserve - make sure that mh_group_insert() cannot fail
 * @layer: where it is going to be
 * @group: complete
 *
 * What is reserved and not used later does no harm and goes with the layer, but
 * mh_join_abort() takes it back.
 *
 * Context: process; sleeps.
 * Return: 0 or -ENOMEM.
 */
int mh_group_reserve(struct mh_layer *layer, struct mh_group *group)
{
	unsigned int i;
	int err = xa_reserve(&layer->groups, group->slot, GFP_KERNEL_ACCOUNT);

	for (i = 0; i < group->nr && !err; i++)
		err = xa_reserve(&layer->alias, group->member[i], GFP_KERNEL_ACCOUNT);
	for (i = 0; i < group->nr - 1 && !err; i++)
		err = xa_reserve(&layer->spares, mh_group_spares(group)[i],
				 GFP_KERNEL_ACCOUNT);
	return err;
}

/**
 * mh_group_insert - let all members of a group show its slot
 * @layer: the layer
 * @group: prepared by mh_group_reserve(); the layer's from now on
 *
 * Context: the folios locked whose slots the members have shown so far. Cannot fail.
 */
void mh_group_insert(struct mh_layer *layer, struct mh_group *group)
{
	unsigned int i;

	mh_overwrite(&layer->groups, group->slot, group);
	for (i = 0; i < group->nr; i++)
		mh_overwrite(&layer->alias, group->member[i], xa_mk_value(group->slot));
	for (i = 0; i < group->nr - 1; i++)
		mh_overwrite(&layer->spares, mh_group_spares(group)[i], xa_mk_value(1));
}

/* Add what shares a slot with @index (or @index alone) to @to. */
static void mh_group_add(struct mh_group *to, struct mh_group *from, pgoff_t index)
{
	if (!from) {
		to->member[to->nr++] = index;
		return;
	}
	memcpy(&to->member[to->nr], from->member, from->nr * sizeof(pgoff_t));
	to->nr += from->nr;
}

/* Same for the spare slots; @at of them are there already. Returns their number. */
static unsigned int mh_spares_add(struct mh_group *to, unsigned int at,
				  struct mh_group *from)
{
	if (!from)
		return at;
	memcpy(mh_group_spares(to) + at, mh_group_spares(from),
	       (from->nr - 1) * sizeof(pgoff_t));
	return at + from->nr - 1;
}

/**
 * mh_join_prepare - allocate what mh_join_commit() will need
 * @layer: the layer, which has both indices
 * @src: an index
 * @dst: an index with another slot
 *
 * Nothing changes yet. Context: process; sleeps.
 * Return: the group to be, owned by the caller until commit or abort;
 * ERR_PTR(-ENOMEM), or ERR_PTR(-EMLINK) if it would be too large.
 */
struct mh_group *mh_join_prepare(struct mh_layer *layer, pgoff_t src, pgoff_t dst)
{
	pgoff_t src_slot = mh_resolve(layer, src, NULL);
	pgoff_t dst_slot = mh_resolve(layer, dst, NULL);
	struct mh_group *from = xa_load(&layer->groups, src_slot);
	struct mh_group *to = xa_load(&layer->groups, dst_slot);
	unsigned int nr = mh_group_size(from) + mh_group_size(to);
	struct mh_group *joined;
	unsigned int at;

	if (nr > MH_MAX_GROUP)
		return ERR_PTR(-EMLINK);
	joined = mh_group_alloc(nr);
	if (!joined)
		return ERR_PTR(-ENOMEM);
	joined->slot = dst_slot;
	mh_group_add(joined, to, dst);
	mh_group_add(joined, from, src);
	at = mh_spares_add(joined, 0, to);
	at = mh_spares_add(joined, at, from);
	mh_group_spares(joined)[at] = src_slot;
	if (!mh_group_reserve(layer, joined))
		return joined;
	mh_join_abort(layer, joined);
	return ERR_PTR(-ENOMEM);
}

/* Undo mh_join_prepare(). Only what is merely reserved is released. */
void mh_join_abort(struct mh_layer *layer, struct mh_group *joined)
{
	unsigned int i;

	xa_release(&layer->groups, joined->slot);
	for (i = 0; i < joined->nr; i++)
		xa_release(&layer->alias, joined->member[i]);
	for (i = 0; i < joined->nr - 1; i++)
		xa_release(&layer->spares, mh_group_spares(joined)[i]);
	kfree(joined);
}

/**
 * mh_join_commit - let everything that shares @src's slot show that of a group
 * @layer: the layer
 * @src: as given to mh_join_prepare()
 * @joined: its result; owned by the layer from now on
 *
 * @src's old slot is a spare afterwards; the caller frees its page.
 * Context: the folios of both slots locked. Cannot fail.
 */
void mh_join_commit(struct mh_layer *layer, pgoff_t src, struct mh_group *joined)
{
	pgoff_t spare = mh_resolve(layer, src, NULL);
	struct mh_group *from = xa_load(&layer->groups, spare);
	struct mh_group *to = xa_load(&layer->groups, joined->slot);

	if (from)
		xa_erase(&layer->groups, spare);
	mh_group_insert(layer, joined);
	kfree(from);
	kfree(to);
}

/* The index's own slot if it is free: fewer indices stay away from home. */
static pgoff_t mh_take_spare(struct mh_layer *layer, struct mh_group *group, pgoff_t index)
{
	pgoff_t *spares = mh_group_spares(group);
	unsigned int nr = group->nr - 1, i;
	pgoff_t slot;

	for (i = 0; i < nr - 1; i++)
		if (spares[i] == layer->base + index)
			break;
	slot = spares[i];
	spares[i] = spares[nr - 1];
	xa_erase(&layer->spares, slot);
	return slot;
}

static void mh_forget_member(struct mh_group *group, pgoff_t index)
{
	unsigned int i;

	for (i = 0; i < group->nr - 1; i++)
		if (group->member[i] == index)
			break;
	group->member[i] = group->member[group->nr - 1];
	group->nr--;
}

/*
 * An index that shares with nobody needs an entry only if it is away from home, or
 * else would show what is in the layer below. A layer that is collapsed keeps them all, as
 * they are going to be overwritten and there may be no memory then.
 */
static void mh_alias_settle(struct mh_layer *layer, pgoff_t index, pgoff_t slot)
{
	if (slot == layer->base + index && layer->arena &&
	    (!layer->lower || index >= layer->inherit_end))
		xa_erase(&layer->alias, index);
	else
		mh_overwrite(&layer->alias, index, xa_mk_value(slot));
}

/**
 * mh_group_leave - give an index that shares its slot a slot of its own
 * @layer: the layer
 * @index: member of a group of it
 *
 * The new slot has no page, or one of zeroes that nobody has ever mapped. The page of
 * the old one stays with the others.
 * Context: @index has no PTE and cannot get one (it is in the removal window, or
 * nobody sees it). Cannot fail.
 */
void mh_group_leave(struct mh_layer *layer, pgoff_t index)
{
	struct mh_group *group = xa_load(&layer->groups, mh_resolve(layer, index, NULL));

	mh_alias_settle(layer, index, mh_take_spare(layer, group, index));
	mh_forget_member(group, index);
	atomic_long_dec(&layer->nr_meshed);
	mh_count(MH_COUNT_pages_meshed, -1);
	if (group->nr > 1)
		return;
	mh_alias_settle(layer, group->member[0], group->slot);
	xa_erase(&layer->groups, group->slot);
	kfree(group);
}

/**
 * mh_erase_all - xa_destroy() for what may be large
 * @xa: nobody else looks at it
 *
 * That one frees everything in one go, with interrupts off.
 * Context: process; sleeps.
 */
void mh_erase_all(struct xarray *xa)
{
	XA_STATE(xas, xa, 0);
	unsigned int n = 0;
	void *entry;

	xas_lock(&xas);
	xas_for_each(&xas, entry, ULONG_MAX) {
		xas_store(&xas, NULL);
		if (++n % XA_CHECK_SCHED)
			continue;
		/* Not xas_pause(), which takes it for granted that the entry is still there. */
		xas_set(&xas, xas.xa_index + 1);
		xas_unlock(&xas);
		cond_resched();
		xas_lock(&xas);
	}
	xas_unlock(&xas);
}

/* Nobody looks at the layer any more. */
void mh_alias_destroy(struct mh_layer *layer)
{
	struct mh_group *group;
	unsigned long slot;

	xa_for_each(&layer->groups, slot, group) {
		kfree(group);
		cond_resched();
	}
	mh_erase_all(&layer->groups);
	mh_erase_all(&layer->spares);
	mh_erase_all(&layer->alias);
	mh_erase_all(&layer->lent);
}
