// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Memory pressure: makes pages that are away from home ready to be reclaimed.
 *
 * The kernel looks for a page's entries in page tables at its slot. There it finds none of
 * an index that shows another slot than that of its own number: one that was merged, one
 * that a child has copied up, or touched first, or sees in a layer that has. Such a
 * page cannot be reclaimed as long as it is mapped. This shrinker removes the entries. What
 * is left is an ordinary page, and whether it goes to swap is up to the ordinary LRU:
 * removing an entry passes its accessed bit on, and who still uses the page gets it
 * back by a minor fault.
 *
 * A family is known to each memory cgroup in which one of its processes has mapped such a
 * page, or made one for a relative: the page is charged to that group most likely. Under
 * pressure on any of them, all layers of the family are gone through in small steps.
 *
 * Reclaim may happen under any lock that is held while memory is allocated, and in a
 * process that has nothing to do with the family. So locks of ours are taken only if they are
 * free, and nothing is allocated. Below them are mm/'s i_mmap_rwsem and page table locks, which
 * reclaim itself takes. No lock keeps entries from coming back: at any time they may.
 */
#include <linux/list_lru.h>
#include <linux/memcontrol.h>
#include <linux/rculist.h>
#include <linux/shrinker.h>
#include <linux/slab.h>

#include "meshhelper.h"

/* Families that are asked for the number of their pages in one go. */
#define MH_SHRINK_FAMILIES	64UL

/**
 * struct mh_shrink_item - a family as a memory cgroup knows it
 * @lru: in the group's list of mh_shrink_lru
 * @family: the family, which frees its items last
 * @memcg: the group, with a reference, or NULL if there are none; compared without
 * @node: in the family's items
 * @rcu: for who is looking at those
 */
struct mh_shrink_item {
	struct list_head lru;
	struct mh_family *family;
	struct mem_cgroup *memcg;
	struct hlist_node node;
	struct rcu_head rcu;
};

static struct kmem_cache *mh_shrink_cache;
static struct shrinker *mh_shrinker;
static struct list_lru mh_shrink_lru;
/* The shrinker may be called before the lists are there. */
static bool mh_shrink_ready;

/*
 * Context: the list's lock held, so the family is there: mh_shrink_forget() takes it. Its store
 * need not be.
 */
static enum lru_status mh_shrink_sum(MH_LRU_WALK_ARGS)
{
	struct mh_shrink_item *item = container_of(entry, struct mh_shrink_item, lru);
	unsigned long *sum = arg;

	*sum += max(atomic_long_read(&item->family->shrink.mapped), 0L);
	return LRU_ROTATE;
}

/*
 * A group may have many families, and a spinlock is held while they are looked at. So some are, in
 * turn, and stand for all.
 */
static unsigned long mh_shrink_count(struct shrinker *shrinker, struct shrink_control *sc)
{
	unsigned long sum = 0, left = MH_SHRINK_FAMILIES, nr = 0;

	/* Pairs with mh_shrink_init(). */
	if (smp_load_acquire(&mh_shrink_ready))
		nr = list_lru_shrink_count(&mh_shrink_lru, sc);
	if (!nr)
		return SHRINK_EMPTY;
	list_lru_walk_one(&mh_shrink_lru, sc->nid, sc->memcg, mh_shrink_sum, &sum, &left);
	return nr > MH_SHRINK_FAMILIES ? mult_frac(sum, nr, MH_SHRINK_FAMILIES) : sum;
}

/* Takes the first family of the list, which then is the last. */
static enum lru_status mh_shrink_pick(MH_LRU_WALK_ARGS)
{
	struct mh_shrink_item *item = container_of(entry, struct mh_shrink_item, lru);
	struct mh_family **picked = arg;

	/* Without a reference left it is about to leave this list. */
	if (kref_get_unless_zero(&item->family->ref))
		*picked = item->family;
	return LRU_ROTATE;
}

/* A look at the folio of a slot, without its lock: what is found may be true no more. */
static bool mh_shrink_look(struct mh_family *family, pgoff_t slot,
			   bool (*question)(struct folio *folio))
{
	struct folio *folio;
	bool answer;

	/* RCU lets the folio be looked at; the reference keeps it from becoming another's. */
	rcu_read_lock();
	folio = xa_load(&family->store->i_pages, slot);
	if (!folio || xa_is_value(folio) || !folio_try_get(folio))
		folio = NULL;
	rcu_read_unlock();
	if (!folio)
		return false;
	answer = question(folio);
	folio_put(folio);
	return answer;
}

/* Mapped, and not on its way to swap? */
static bool mh_folio_held(struct folio *folio)
{
	return folio_mapcount(folio) && !folio_test_writeback(folio);
}

static bool mh_folio_locked_in(struct folio *folio)
{
	return folio_test_mlocked(folio);
}

/* The layer below, unless another layer or an arena leads to it as well, and earlier. */
static struct mh_layer *mh_shrink_below(struct mh_layer *layer)
{
	struct mh_layer *lower = layer->lower;

	return lower && !lower->arena && mh_layer_upper(lower) == layer ? lower : NULL;
}

/* The slot of an index that the layer has. */
static pgoff_t mh_own_slot(struct mh_layer *layer, pgoff_t index)
{
	void *entry = xa_load(&layer->alias, index);

	return entry ? xa_to_value(entry) : layer->base + index;
}

/*
 * Removing entries of an index removes those of all relatives; locked memory stays mapped. Each
 * layer is looked at once, however many arenas see the index in it.
 */
static bool mh_index_locked_in(struct mh_family *family, pgoff_t index)
{
	struct mh_layer *layer;
	struct mh_arena *arena;

	list_for_each_entry(arena, &family->arenas, family_node)
		for (layer = arena->top; layer; layer = mh_shrink_below(layer))
			if (mh_layer_has(layer, index) &&
			    mh_shrink_look(family, mh_own_slot(layer, index), mh_folio_locked_in))
				return true;
	return false;
}

static bool mh_shrink_worthwhile(struct mh_family *family, struct mh_layer *layer, pgoff_t index)
{
	pgoff_t slot = mh_own_slot(layer, index);

	return slot != index && mh_shrink_look(family, slot, mh_folio_held) &&
	       !mh_index_locked_in(family, index);
}

/* Layers in the order of their regions, as any may come and go between two calls. */
static struct mh_layer *mh_shrink_layer(struct mh_family *family, pgoff_t base)
{
	struct mh_layer *layer, *next = NULL;
	struct mh_arena *arena;

	list_for_each_entry(arena, &family->arenas, family_node)
		for (layer = arena->top; layer; layer = mh_shrink_below(layer))
			if (layer->base >= base && (!next || layer->base < next->base))
				next = layer;
	return next;
}

/* Of the oldest layer, what is at home is where the kernel looks; only the rest is of interest. */
static pgoff_t mh_shrink_next(struct mh_family *family, struct mh_layer *layer, pgoff_t index)
{
	if (layer->base)
		return mh_next_content(family, layer, index, MH_MAX_ARENA_PAGES);
	if (xa_find(&layer->alias, &index, MH_MAX_ARENA_PAGES - 1, XA_PRESENT))
		return index;
	return MH_MAX_ARENA_PAGES;
}

/**
 * struct mh_shrink_run - indices in a row, whose entries are removed in one go
 * @first: the first of them
 * @nr: how many
 * @done: how many there were in runs before
 */
struct mh_shrink_run {
	pgoff_t first;
	unsigned long nr;
	unsigned long done;
};

static void mh_shrink_flush(struct mh_family *family, struct mh_shrink_run *run)
{
	if (run->nr)
		mh_zap(family, run->first, run->nr);
	run->done += run->nr;
	run->nr = 0;
}

static void mh_shrink_add_to(struct mh_family *family, struct mh_shrink_run *run, pgoff_t index)
{
	if (run->nr && index != run->first + run->nr)
		mh_shrink_flush(family, run);
	if (!run->nr++)
		run->first = index;
}

/* All was looked at: what was mapped before is not any more, or need not be. */
static void mh_shrink_restart(struct mh_shrink *shrink)
{
	atomic_long_sub(shrink->mapped_before, &shrink->mapped);
	shrink->mapped_before = atomic_long_read(&shrink->mapped);
	shrink->base = 0;
	shrink->index = 0;
}

/*
 * Context: family->tree held for reading, so the layers stay, and the store with the
 * arenas: who closes the last mapping waits for the lock.
 *
 * Looks at the next @nr indices that may be away from home. Returns how many it unmapped.
 */
static unsigned long mh_shrink_layers(struct mh_family *family, unsigned long nr)
{
	struct mh_shrink *shrink = &family->shrink;
	struct mh_shrink_run run = { .nr = 0 };
	struct mh_layer *layer = mh_shrink_layer(family, shrink->base);

	while (layer && nr--) {
		if (layer->base != shrink->base) {
			shrink->base = layer->base;
			shrink->index = 0;
		}
		shrink->index = mh_shrink_next(family, layer, shrink->index);
		if (shrink->index >= MH_MAX_ARENA_PAGES)
			layer = mh_shrink_layer(family, layer->base + 1);
		else if (mh_shrink_worthwhile(family, layer, shrink->index))
			mh_shrink_add_to(family, &run, shrink->index++);
		else
			shrink->index++;
		cond_resched();
	}
	mh_shrink_flush(family, &run);
	if (!layer)
		mh_shrink_restart(shrink);
	return run.done;
}

static unsigned long mh_shrink_family(struct mh_family *family, unsigned long nr)
{
	unsigned long done = 0;

	if (!mutex_trylock(&family->shrink.lock))
		return 0;
	if (down_read_trylock(&family->tree)) {
		done = mh_shrink_layers(family, nr);
		up_read(&family->tree);
	}
	mutex_unlock(&family->shrink.lock);
	return done;
}

static unsigned long mh_shrink_scan(struct shrinker *shrinker, struct shrink_control *sc)
{
	struct mh_family *family = NULL;
	unsigned long one = 1, done;

	list_lru_walk_one(&mh_shrink_lru, sc->nid, sc->memcg, mh_shrink_pick, &family, &one);
	if (!family)
		return SHRINK_STOP;
	done = mh_shrink_family(family, sc->nr_to_scan);
	mh_family_put(family);
	mh_count(MH_COUNT_pages_unmapped_total, done);
	return done;
}

/* Context: RCU, or the lock of the items held. */
static struct mh_shrink_item *mh_shrink_find(struct mh_family *family, struct mem_cgroup *memcg)
{
	struct mh_shrink *shrink = &family->shrink;
	struct mh_shrink_item *item;

	hlist_for_each_entry_rcu(item, &shrink->items, node, lockdep_is_held(&shrink->items_lock))
		if (READ_ONCE(item->memcg) == memcg)
			return item;
	return NULL;
}

static void mh_shrink_free(struct mh_shrink_item *item)
{
	mem_cgroup_put(item->memcg);
	kmem_cache_free(mh_shrink_cache, item);
}

static void mh_shrink_free_rcu(struct rcu_head *rcu)
{
	mh_shrink_free(container_of(rcu, struct mh_shrink_item, rcu));
}

/*
 * A group that is removed leaves its pages, and the kernel its lists, to the next group above
 * that lives. If that one knows the family, too, it need not do so twice.
 * Context: the lock of the items held.
 */
static void mh_shrink_bequeath(struct mh_family *family, struct mh_shrink_item *item)
{
	struct mem_cgroup *heir = item->memcg;

	while (!mem_cgroup_online(heir))
		heir = parent_mem_cgroup(heir);
	if (heir == item->memcg)
		return;
	if (!mh_shrink_find(family, heir) && mem_cgroup_tryget(heir)) {
		mem_cgroup_put(item->memcg);
		WRITE_ONCE(item->memcg, heir);
		return;
	}
	hlist_del_rcu(&item->node);
	list_lru_del_obj(&mh_shrink_lru, &item->lru);
	call_rcu(&item->rcu, mh_shrink_free_rcu);
}

/* Takes over the reference to the group. */
static void mh_shrink_add(struct mh_family *family, struct mem_cgroup *memcg)
{
	struct mh_shrink_item *item, *other;
	struct hlist_node *next;

	item = kmem_cache_alloc_lru(mh_shrink_cache, &mh_shrink_lru, GFP_KERNEL_ACCOUNT);
	if (!item) {
		mem_cgroup_put(memcg);
		return;
	}
	INIT_LIST_HEAD(&item->lru);
	item->family = family;
	item->memcg = memcg;
	spin_lock(&family->shrink.items_lock);
	hlist_for_each_entry_safe(other, next, &family->shrink.items, node)
		mh_shrink_bequeath(family, other);
	/* Somebody may have been faster. */
	if (!mh_shrink_find(family, memcg)) {
		hlist_add_head_rcu(&item->node, &family->shrink.items);
		list_lru_add_obj(&mh_shrink_lru, &item->lru);
		item = NULL;
	}
	spin_unlock(&family->shrink.items_lock);
	if (item)
		mh_shrink_free(item);
}

/**
 * mh_shrink_know - let the caller's memory cgroup know a family
 * @family: has a page that is away from home and charged to that group
 *
 * A process may have been moved to another group. Without memory the family stays unknown:
 * such pages are not reclaimed, then.
 * Context: process, the family's tree or a mapping held; sleeps.
 */
void mh_shrink_know(struct mh_family *family)
{
	struct mem_cgroup *memcg;
	bool known;

	rcu_read_lock();
	memcg = mem_cgroup_from_task(current);
	known = mh_shrink_find(family, memcg) || !mem_cgroup_tryget(memcg);
	rcu_read_unlock();
	if (!known)
		mh_shrink_add(family, memcg);
}

/**
 * mh_shrink_note - pages are mapped away from their homes, or are about to be
 * @family: whose
 * @nr: how many at most
 *
 * Context: as mh_shrink_know().
 */
void mh_shrink_note(struct mh_family *family, unsigned long nr)
{
	long most = 4 * READ_ONCE(family->store->nrpages);

	/*
	 * Many may have been made and removed since they were last looked for. What can be
	 * reclaimed are pages, each of which a few indices show.
	 */
	if (atomic_long_read(&family->shrink.mapped) < most)
		atomic_long_add(nr, &family->shrink.mapped);
	mh_shrink_know(family);
}

/**
 * mh_shrink_forget - have the shrinker leave a family alone
 * @family: about to be freed, without references
 *
 * Context: any; may be reclaim itself.
 */
void mh_shrink_forget(struct mh_family *family)
{
	struct mh_shrink_item *item;
	struct hlist_node *next;

	hlist_for_each_entry_safe(item, next, &family->shrink.items, node) {
		list_lru_del_obj(&mh_shrink_lru, &item->lru);
		mh_shrink_free(item);
	}
}

/**
 * mh_shrink_init - start to listen to memory pressure
 *
 * Return: 0 or -ENOMEM.
 */
int mh_shrink_init(void)
{
	mh_shrink_cache = KMEM_CACHE(mh_shrink_item, 0);
	if (!mh_shrink_cache)
		return -ENOMEM;
	mh_shrinker = shrinker_alloc(SHRINKER_MEMCG_AWARE | SHRINKER_NUMA_AWARE, "meshhelper");
	if (!mh_shrinker)
		goto destroy_cache;
	mh_shrinker->count_objects = mh_shrink_count;
	mh_shrinker->scan_objects = mh_shrink_scan;
	/* Early and in small steps: or the LRU meets mapped pages only, and despairs. */
	mh_shrinker->seeks = 1;
	mh_shrinker->batch = 32;
	if (mh_shrinker_register(mh_shrinker))
		goto free_shrinker;
	/* The lists need the number that the shrinker got. */
	if (list_lru_init_memcg(&mh_shrink_lru, mh_shrinker))
		goto free_shrinker;
	/* Pairs with mh_shrink_count(). */
	smp_store_release(&mh_shrink_ready, true);
	return 0;

free_shrinker:
	shrinker_free(mh_shrinker);
destroy_cache:
	kmem_cache_destroy(mh_shrink_cache);
	return -ENOMEM;
}

/* No family is left. */
void mh_shrink_exit(void)
{
	shrinker_free(mh_shrinker);
	/* Items that a group has left behind. */
	rcu_barrier();
	list_lru_destroy(&mh_shrink_lru);
	kmem_cache_destroy(mh_shrink_cache);
}
