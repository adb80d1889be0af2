// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * The alias map: which slot of the store each index of the arena shows.
 *
 * Every index of a group keeps an entry in the alias map, if only a reserved one
 * (which reads as "its own slot"). So changing the alias of a group's member never
 * allocates, and neither leaving a group nor committing a join can fail.
 *
 * A spare slot is marked at the entry of the index with its number: that index is away
 * from home, or the slot would be in use, so it has an entry to be marked.
 *
 * Everything but mh_slot() and mh_slot_spare() is called with arena->lock held.
 */
#include <linux/slab.h>

#include "meshhelper.h"

/**
 * mh_slot - where the contents of an index are
 * @arena: the arena
 * @index: page of the arena
 *
 * Context: any. The answer is stable while arena->lock or the lock of the slot's
 * folio is held, and otherwise has to be checked again under one of them.
 * Return: a page index of the store.
 */
pgoff_t mh_slot(struct mh_arena *arena, pgoff_t index)
{
	void *entry = xa_load(&arena->alias, index);

	return entry ? xa_to_value(entry) : index;
}

/* Is @slot one that no index shows? For sure only under arena->lock. */
bool mh_slot_spare(struct mh_arena *arena, pgoff_t slot)
{
	return xa_get_mark(&arena->alias, slot, MH_SPARE);
}

/* The group of indices that share @slot, NULL if at most one index uses it. */
struct mh_group *mh_group(struct mh_arena *arena, pgoff_t slot)
{
	lockdep_assert_held(&arena->lock);
	return xa_load(&arena->groups, slot);
}

static unsigned int mh_group_size(struct mh_group *group)
{
	return group ? group->nr : 1;
}

static pgoff_t *mh_spares(struct mh_group *group)
{
	return group->member + group->capacity;
}

/* Overwrite an entry that exists or is reserved: cannot fail. */
static void mh_alias_set(struct mh_arena *arena, pgoff_t index, pgoff_t slot)
{
	void *entry = index == slot ? XA_ZERO_ENTRY : xa_mk_value(slot);

	WARN_ON_ONCE(xa_err(xa_store(&arena->alias, index, entry, GFP_NOWAIT)));
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
	memcpy(mh_spares(to) + at, mh_spares(from), (from->nr - 1) * sizeof(pgoff_t));
	return at + from->nr - 1;
}

/* A lone index has no entry of its own in the alias map yet: reserve one. */
static int mh_reserve_lone(struct mh_arena *arena, pgoff_t index)
{
	if (mh_group(arena, mh_slot(arena, index)))
		return 0;
	return xa_reserve(&arena->alias, index, GFP_KERNEL_ACCOUNT);
}

/* xa_release() drops reservations only: the entry of a moved index stays. */
static void mh_release_lone(struct mh_arena *arena, pgoff_t index)
{
	if (!mh_group(arena, mh_slot(arena, index)))
		xa_release(&arena->alias, index);
}

/**
 * mh_join_prepare - allocate what mh_join_commit() will need
 * @arena: the arena
 * @src: an index
 * @dst: an index with another slot
 *
 * Nothing changes yet. Context: process, arena->lock held; sleeps.
 * Return: the group to be, owned by the caller until commit or abort;
 * ERR_PTR(-ENOMEM), or ERR_PTR(-EMLINK) if it would be too large.
 */
struct mh_group *mh_join_prepare(struct mh_arena *arena, pgoff_t src, pgoff_t dst)
{
	pgoff_t dst_slot = mh_slot(arena, dst);
	struct mh_group *from = mh_group(arena, mh_slot(arena, src));
	struct mh_group *to = mh_group(arena, dst_slot);
	unsigned int nr = mh_group_size(from) + mh_group_size(to);
	struct mh_group *joined;
	unsigned int at;

	if (nr > MH_MAX_GROUP)
		return ERR_PTR(-EMLINK);
	joined = kzalloc(struct_size(joined, member, 2 * nr), GFP_KERNEL_ACCOUNT);
	if (!joined)
		return ERR_PTR(-ENOMEM);
	joined->slot = dst_slot;
	joined->capacity = nr;
	mh_group_add(joined, to, dst);
	mh_group_add(joined, from, src);
	at = mh_spares_add(joined, 0, to);
	at = mh_spares_add(joined, at, from);
	mh_spares(joined)[at] = mh_slot(arena, src);

	if (mh_reserve_lone(arena, src))
		goto free;
	if (mh_reserve_lone(arena, dst))
		goto release_src;
	if (!to && xa_reserve(&arena->groups, dst_slot, GFP_KERNEL_ACCOUNT))
		goto release_dst;
	return joined;

release_dst:
	mh_release_lone(arena, dst);
release_src:
	mh_release_lone(arena, src);
free:
	kfree(joined);
	return ERR_PTR(-ENOMEM);
}

/* Undo mh_join_prepare(); the arguments are the same, and its result. */
void mh_join_abort(struct mh_arena *arena, pgoff_t src, pgoff_t dst,
		   struct mh_group *joined)
{
	xa_release(&arena->groups, joined->slot);
	mh_release_lone(arena, dst);
	mh_release_lone(arena, src);
	kfree(joined);
}

/**
 * mh_join_commit - let everything that shares @src's slot show @dst's
 * @arena: the arena
 * @src: as given to mh_join_prepare()
 * @dst: as given to mh_join_prepare()
 * @joined: its result; owned by the alias map from now on
 *
 * @src's old slot is a spare afterwards; the caller frees its page.
 * Context: arena->lock held, and the folio locks of both slots. Cannot fail.
 */
void mh_join_commit(struct mh_arena *arena, pgoff_t src, pgoff_t dst,
		    struct mh_group *joined)
{
	struct mh_group *from = mh_group(arena, mh_slot(arena, src));
	struct mh_group *to = mh_group(arena, joined->slot);
	pgoff_t spare = mh_slot(arena, src);
	unsigned int i;

	if (from)
		xa_erase(&arena->groups, from->slot);
	xa_store(&arena->groups, joined->slot, joined, GFP_NOWAIT);
	for (i = mh_group_size(to); i < joined->nr; i++)
		mh_alias_set(arena, joined->member[i], joined->slot);
	xa_set_mark(&arena->alias, spare, MH_SPARE);
	kfree(from);
	kfree(to);
}

/* The index's own slot if it is free: fewer indices stay away from home. */
static pgoff_t mh_take_spare(struct mh_arena *arena, struct mh_group *group,
			     pgoff_t index)
{
	unsigned int nr = group->nr - 1, i;
	pgoff_t *spares = mh_spares(group);
	pgoff_t slot;

	for (i = 0; i < nr - 1; i++)
		if (spares[i] == index)
			break;
	slot = spares[i];
	spares[i] = spares[nr - 1];
	xa_clear_mark(&arena->alias, slot, MH_SPARE);
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

/* An index that shares with nobody needs an entry only if it is away from home. */
static void mh_alias_settle(struct mh_arena *arena, pgoff_t index, pgoff_t slot)
{
	if (index == slot)
		xa_erase(&arena->alias, index);
	else
		mh_alias_set(arena, index, slot);
}

/**
 * mh_group_leave - give an index that shares its slot a slot of its own
 * @arena: the arena
 * @index: member of a group
 *
 * The new slot has no page, or one of zeroes that nobody has ever mapped. The page of
 * the old one stays with the others.
 * Context: arena->lock held; @index has no PTE and cannot get one (it is in the
 * removal window). Cannot fail.
 */
void mh_group_leave(struct mh_arena *arena, pgoff_t index)
{
	struct mh_group *group = mh_group(arena, mh_slot(arena, index));

	mh_alias_settle(arena, index, mh_take_spare(arena, group, index));
	mh_forget_member(group, index);
	if (group->nr > 1)
		return;
	mh_alias_settle(arena, group->member[0], group->slot);
	xa_erase(&arena->groups, group->slot);
	kfree(group);
}

static int mh_groups_copy(struct mh_arena *to, struct mh_arena *from)
{
	struct mh_group *group, *copy;
	unsigned long slot;
	int err;

	xa_for_each(&from->groups, slot, group) {
		size_t size = struct_size(group, member, 2 * group->capacity);

		copy = kmemdup(group, size, GFP_KERNEL_ACCOUNT);
		if (!copy)
			return -ENOMEM;
		err = xa_err(xa_store(&to->groups, slot, copy, GFP_KERNEL_ACCOUNT));
		if (err) {
			kfree(copy);
			return err;
		}
	}
	return 0;
}

/* What xa_for_each() did not show of the alias map: reserved entries and marks. */
static int mh_restore_groups(struct mh_arena *arena)
{
	struct mh_group *group;
	unsigned long slot;
	unsigned int i;
	int err;

	xa_for_each(&arena->groups, slot, group) {
		for (i = 0; i < group->nr; i++) {
			err = xa_reserve(&arena->alias, group->member[i],
					 GFP_KERNEL_ACCOUNT);
			if (err)
				return err;
		}
		for (i = 0; i < group->nr - 1; i++)
			xa_set_mark(&arena->alias, mh_spares(group)[i], MH_SPARE);
	}
	return 0;
}

/**
 * mh_alias_copy - give a forked arena the aliases of its parent
 * @to: new arena, nobody else knows it
 * @from: arena of the parent, its lock held
 *
 * Context: process; sleeps. On error @to is to be destroyed.
 * Return: 0 or -ENOMEM.
 */
int mh_alias_copy(struct mh_arena *to, struct mh_arena *from)
{
	unsigned long index;
	void *entry;
	int err;

	xa_for_each(&from->alias, index, entry) {
		err = xa_err(xa_store(&to->alias, index, entry, GFP_KERNEL_ACCOUNT));
		if (err)
			return err;
	}
	err = mh_groups_copy(to, from);
	if (err)
		return err;
	return mh_restore_groups(to);
}

/* Last reference to @arena: nobody else looks at its maps any more. */
void mh_alias_destroy(struct mh_arena *arena)
{
	struct mh_group *group;
	unsigned long slot;

	xa_for_each(&arena->groups, slot, group)
		kfree(group);
	xa_destroy(&arena->groups);
	xa_destroy(&arena->alias);
	xa_destroy(&arena->armed);
}
