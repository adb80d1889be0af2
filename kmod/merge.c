// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * ARM and MERGE of one pair of spans.
 *
 * A merge is all or nothing for a span of up to MESHHELPER_MAX_SPAN_PAGES pages:
 *
 *	look up		indices and slots of both spans; every page distinct
 *	prepare		get the pages, allocate the groups to be
 *	lock		all folios; from here on faults on them wait
 *	check		nothing unexpected, no references but ours
 *	copy, zap	in the order the mode asks for
 *	check		references again: with no PTE left none can be new
 *	commit		aliases and groups, which cannot fail
 *	unlock		faults go on, and find the new slots
 *	free		the pages of src's old slots
 *
 * Until commit nothing has changed but bytes of @dst that no slot in use covers, so
 * every failure before it just unwinds.
 *
 * Armed mode relies on the write-protection that the caller set by userfaultfd after
 * arming: a write since then has been through mh_page_mkwrite(), which took the
 * folio's lock and the mark. Others have not been possible: mh_map_written() leaves armed slots
 * alone, and a page table entry that it made before was protected like any other, or finds the
 * protection there and makes none. Lying about it loses the caller's own writes only.
 */
#include <linux/bitmap.h>
#include <linux/highmem.h>
#include <linux/mmap_lock.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "meshhelper.h"
#include "trace.h"

/**
 * struct mh_half - one side of one page of a pair
 * @index: page of the arena
 * @slot: its slot
 * @page: the slot's page, with a reference
 */
struct mh_half {
	pgoff_t index;
	pgoff_t slot;
	struct page *page;
};

/**
 * struct mh_merge - a merge on its way
 * @arena: arena of both spans, its lock held
 * @layer: its top layer
 * @pair: the request
 * @armed: mode MESHHELPER_MERGE_ARMED, else _ZAP
 * @nr: pages in each span
 * @src: what gives up its pages
 * @dst: whose pages are used by both
 * @joined: groups to be, by page
 */
struct mh_merge {
	struct mh_arena *arena;
	struct mh_layer *layer;
	const struct meshhelper_pair *pair;
	bool armed;
	unsigned int nr;
	struct mh_half src[MESHHELPER_MAX_SPAN_PAGES];
	struct mh_half dst[MESHHELPER_MAX_SPAN_PAGES];
	struct mh_group *joined[MESHHELPER_MAX_SPAN_PAGES];
};

/* Context: mmap_lock held. The mapping of an arena that has all of the span, or NULL. */
static struct vm_area_struct *mh_find_span(struct mm_struct *mm, u64 addr, unsigned int nr)
{
	struct vm_area_struct *vma;

	if (addr >= TASK_SIZE)
		return NULL;
	vma = find_vma(mm, addr);
	if (!vma || vma->vm_start > addr || vma->vm_ops != &mh_vm_ops ||
	    vma->vm_end - addr < (u64)nr << PAGE_SHIFT || !vma->vm_private_data ||
	    linear_page_index(vma, addr) + nr > MH_MAX_ARENA_PAGES)
		return NULL;
	return vma;
}

/* @live as a bitmap, for any width and order of bytes. */
static void mh_live_bitmap(unsigned long *bitmap, const struct meshhelper_pair *pair)
{
	bitmap_from_arr64(bitmap, pair->live, MESHHELPER_MAX_SLOTS);
}

static bool mh_pair_valid(const struct meshhelper_pair *pair)
{
	DECLARE_BITMAP(live, MESHHELPER_MAX_SLOTS);
	unsigned int slots;

	if (pair->flags || !pair->pages || pair->pages > MESHHELPER_MAX_SPAN_PAGES ||
	    !PAGE_ALIGNED(pair->src | pair->dst) || !pair->slot_size)
		return false;
	slots = (pair->pages << PAGE_SHIFT) / pair->slot_size;
	if (!slots || slots > MESHHELPER_MAX_SLOTS)
		return false;
	mh_live_bitmap(live, pair);
	return find_next_bit(live, MESHHELPER_MAX_SLOTS, slots) == MESHHELPER_MAX_SLOTS;
}

/*
 * Context: mmap_lock held. Fills in the indices of both spans.
 *
 * Locked memory stays where it is, and madvise(MADV_REMOVE) would not let an index
 * leave its group again.
 */
static int mh_merge_locate(struct mh_merge *merge, struct mm_struct *mm)
{
	const struct meshhelper_pair *pair = merge->pair;
	struct vm_area_struct *src, *dst;
	unsigned int i;

	merge->nr = pair->pages;
	src = mh_find_span(mm, pair->src, merge->nr);
	dst = mh_find_span(mm, pair->dst, merge->nr);
	if (!src || !dst)
		return -EFAULT;
	if ((src->vm_flags | dst->vm_flags) & VM_LOCKED)
		return -EPERM;
	if (src->vm_private_data != dst->vm_private_data)
		return -EXDEV;
	merge->arena = src->vm_private_data;
	for (i = 0; i < merge->nr; i++) {
		merge->src[i].index = linear_page_index(src, pair->src) + i;
		merge->dst[i].index = linear_page_index(dst, pair->dst) + i;
	}
	return 0;
}

/* All slots must differ, or a page would be locked or given away twice. */
static int mh_merge_slots(struct mh_merge *merge)
{
	pgoff_t seen[2 * MESHHELPER_MAX_SPAN_PAGES];
	unsigned int i, j, n = 0;

	for (i = 0; i < merge->nr; i++) {
		merge->src[i].slot = mh_resolve(merge->layer, merge->src[i].index, NULL);
		merge->dst[i].slot = mh_resolve(merge->layer, merge->dst[i].index, NULL);
		if (merge->src[i].slot == merge->dst[i].slot)
			return -EEXIST;
		seen[n++] = merge->src[i].slot;
		seen[n++] = merge->dst[i].slot;
	}
	for (i = 0; i < n; i++)
		for (j = 0; j < i; j++)
			if (seen[i] == seen[j])
				return -EINVAL;
	return 0;
}

/*
 * A page that relatives see, too, would have to be copied first: that costs more memory
 * than the merge saves. Only a fork could make it shared again, and that needs mmap_lock.
 */
static bool mh_merge_shared(struct mh_merge *merge)
{
	unsigned int i;

	for (i = 0; i < merge->nr; i++)
		if (mh_index_shared(merge->layer, merge->src[i].index) ||
		    mh_index_shared(merge->layer, merge->dst[i].index))
			return true;
	return false;
}

static unsigned int mh_present(struct mh_arena *arena, pgoff_t index, unsigned int nr)
{
	unsigned int i, present = 0;

	for (i = 0; i < nr; i++)
		present += mh_slot_present(arena->family,
					   mh_resolve(arena->top, index + i, NULL));
	return present;
}

/* Pages there are now, minus those there will be. */
static int mh_merge_gain(struct mh_merge *merge)
{
	return mh_present(merge->arena, merge->src[0].index, merge->nr) +
	       mh_present(merge->arena, merge->dst[0].index, merge->nr) - merge->nr;
}

static void mh_put_pages(struct mh_merge *merge)
{
	unsigned int i;

	for (i = 0; i < merge->nr; i++) {
		if (merge->src[i].page)
			put_page(merge->src[i].page);
		if (merge->dst[i].page)
			put_page(merge->dst[i].page);
	}
}

static int mh_get_page(struct mh_merge *merge, struct mh_half *half)
{
	struct page *page = mh_slot_page(merge->arena->family, half->slot);

	/* Shmem's name for memory that must not be overcommitted. */
	if (IS_ERR(page))
		return PTR_ERR(page) == -ENOSPC ? -ENOMEM : PTR_ERR(page);
	half->page = page;
	mh_touch(merge->arena, half->index);
	return PageCompound(page) ? -EOPNOTSUPP : 0;
}

/* A page that was never touched is made, so that a span merges as a whole. */
static int mh_get_pages(struct mh_merge *merge)
{
	unsigned int i;
	int err;

	for (i = 0; i < merge->nr; i++) {
		err = mh_get_page(merge, &merge->src[i]) ?:
		      mh_get_page(merge, &merge->dst[i]);
		if (err)
			return err;
	}
	return 0;
}

static void mh_abort_joins(struct mh_merge *merge)
{
	unsigned int i;

	for (i = 0; i < merge->nr; i++)
		if (merge->joined[i])
			mh_join_abort(merge->layer, merge->joined[i]);
}

static int mh_prepare_joins(struct mh_merge *merge)
{
	struct mh_group *joined;
	unsigned int i;

	for (i = 0; i < merge->nr; i++) {
		joined = mh_join_prepare(merge->layer, merge->src[i].index,
					 merge->dst[i].index);
		if (IS_ERR(joined))
			return PTR_ERR(joined);
		merge->joined[i] = joined;
	}
	return 0;
}

/* The only place that holds several folio locks; arena->lock makes that safe. */
static void mh_lock_pages(struct mh_merge *merge)
{
	unsigned int i;

	for (i = 0; i < merge->nr; i++) {
		lock_page(merge->src[i].page);
		lock_page(merge->dst[i].page);
	}
}

static void mh_unlock_pages(struct mh_merge *merge)
{
	unsigned int i;

	for (i = 0; i < merge->nr; i++) {
		unlock_page(merge->src[i].page);
		unlock_page(merge->dst[i].page);
	}
}

/* Still the page of its slot, and nothing that mm/ is in the middle of? */
static bool mh_page_usable(struct mh_merge *merge, struct mh_half *half)
{
	struct folio *folio = page_folio(half->page);

	return mh_slot_page_is(merge->arena->family, half->page, half->slot) &&
	       !folio_test_large(folio) &&
	       folio_test_uptodate(folio) && !folio_test_writeback(folio) &&
	       !PageHWPoison(half->page);
}

/*
 * References to a page of src beyond ours. Each may be I/O that is going to read or write the
 * page after the merge. Once @zapped, a PTE is one too many as well. A page of dst may
 * have references, but not where they can be relatives', who must not see what is merged.
 */
static int mh_excess_refs(struct mh_merge *merge, unsigned int i, bool zapped)
{
	struct page *src = merge->src[i].page, *dst = merge->dst[i].page;
	int excess = mh_page_refs(src) - 1;

	if (zapped)
		excess += folio_mapcount(page_folio(src));
	if (xa_load(&merge->layer->lent, merge->dst[i].slot))
		excess += mh_page_refs(dst) - 1;
	return excess;
}

/*
 * A pin (FOLL_PIN) counts as GUP_PIN_COUNTING_BIAS references. Fewer are a pipe, a list of
 * the LRU code or somebody who looks at the page: those of the kernel pass by themselves.
 */
static int mh_check_refs(struct mh_merge *merge, bool zapped)
{
	unsigned int i;
	int excess, err = 0;

	for (i = 0; i < merge->nr; i++) {
		excess = mh_excess_refs(merge, i, zapped);
		if (excess >= (int)GUP_PIN_COUNTING_BIAS)
			return -ETXTBSY;
		if (excess)
			err = -EBUSY;
	}
	return err;
}

static int mh_check_pages(struct mh_merge *merge)
{
	unsigned int i;

	for (i = 0; i < merge->nr; i++) {
		if (!mh_page_usable(merge, &merge->src[i]) ||
		    !mh_page_usable(merge, &merge->dst[i]))
			return -EBUSY;
		if (merge->armed && !xa_load(&merge->arena->armed, merge->src[i].slot))
			return -EAGAIN;
	}
	return 0;
}

/* Copy bytes [from, to) of src to the same place in dst. Return: 0, or -EIO for a memory error. */
static int mh_copy_range(struct mh_merge *merge, size_t from, size_t to)
{
	unsigned long failed = 0;

	while (from < to && !failed) {
		unsigned int i = from >> PAGE_SHIFT;
		size_t offset = offset_in_page(from);
		size_t len = min_t(size_t, to - from, PAGE_SIZE - offset);
		char *src = kmap_local_page(merge->src[i].page);
		char *dst = kmap_local_page(merge->dst[i].page);

		failed = copy_mc_to_kernel(dst + offset, src + offset, len);
		flush_dcache_page(merge->dst[i].page);
		kunmap_local(dst);
		kunmap_local(src);
		from += len;
	}
	return failed ? -EIO : 0;
}

/* What has been copied when it fails lies in slots of dst that nobody uses. */
static int mh_copy_live(struct mh_merge *merge)
{
	size_t size = merge->pair->slot_size;
	DECLARE_BITMAP(live, MESHHELPER_MAX_SLOTS);
	unsigned int first, end, i;
	int err = 0;

	mh_live_bitmap(live, merge->pair);
	for_each_set_bitrange(first, end, live, MESHHELPER_MAX_SLOTS)
		err = err ?: mh_copy_range(merge, first * size, end * size);
	/* Written through the kernel's mapping: no PTE knows that it is dirty. */
	for (i = 0; i < merge->nr; i++)
		set_page_dirty(merge->dst[i].page);
	return err;
}

static void mh_zap_index(struct mh_merge *merge, unsigned int i)
{
	struct mh_group *group = xa_load(&merge->layer->groups, merge->src[i].slot);
	unsigned int m;

	if (!group) {
		mh_zap(merge->arena->family, merge->src[i].index, 1);
		return;
	}
	for (m = 0; m < group->nr; m++)
		mh_zap(merge->arena->family, group->member[m], 1);
}

static void mh_zap_src(struct mh_merge *merge)
{
	bool lone = true;
	unsigned int i;

	for (i = 0; i < merge->nr; i++)
		lone = lone && !xa_load(&merge->layer->groups, merge->src[i].slot);
	if (lone) {
		mh_zap(merge->arena->family, merge->src[0].index, merge->nr);
		return;
	}
	for (i = 0; i < merge->nr; i++)
		mh_zap_index(merge, i);
}

/* Zapping a young page may put it on a per-CPU list of the LRU code, which holds a reference. */
static int mh_check_refs_zapped(struct mh_merge *merge)
{
	int err = mh_check_refs(merge, true);

	if (err != -EBUSY)
		return err;
	mh_drain_local();
	return mh_check_refs(merge, true);
}

/* Context: all folios locked. On error src's contents and aliases are untouched. */
static int mh_move_contents(struct mh_merge *merge)
{
	int err = mh_check_pages(merge);

	if (err)
		return err;
	/* Zapping does away with some references, but never with a pin. */
	err = mh_check_refs(merge, false);
	if (err && (merge->armed || err != -EBUSY))
		return err;
	if (merge->armed) {
		err = mh_copy_live(merge);
		if (err)
			return err;
		mh_zap_src(merge);
		return mh_check_refs_zapped(merge);
	}
	mh_zap_src(merge);
	return mh_check_refs_zapped(merge) ?: mh_copy_live(merge);
}

static void mh_commit(struct mh_merge *merge)
{
	unsigned int i;

	for (i = 0; i < merge->nr; i++)
		mh_join_commit(merge->layer, merge->src[i].index, merge->joined[i]);
	atomic_long_add(merge->nr, &merge->layer->nr_meshed);
	atomic64_add(merge->nr, &merge->arena->nr_merged);
	mh_count(MH_COUNT_pages_meshed, merge->nr);
	mh_count(MH_COUNT_pages_merged_total, merge->nr);
	mh_count(MH_COUNT_merges_total, 1);
}

/* Spares now. A fault that has waited for one of these folios cleans up after itself. */
static void mh_free_src(struct mh_merge *merge)
{
	unsigned int i;

	for (i = 0; i < merge->nr; i++)
		mh_store_free(merge->arena->family, merge->src[i].slot, merge->src[i].slot + 1);
}

/* Context: arena->lock held, slots known. */
static int mh_merge_try(struct mh_merge *merge)
{
	int err = mh_get_pages(merge) ?: mh_prepare_joins(merge);

	if (err)
		goto abort;
	mh_lock_pages(merge);
	err = mh_move_contents(merge);
	if (!err)
		mh_commit(merge);
	mh_unlock_pages(merge);
abort:
	if (err)
		mh_abort_joins(merge);
	mh_put_pages(merge);
	if (!err)
		mh_free_src(merge);
	return err;
}

/*
 * The reference in excess may be that of some CPU's list of pages on their way to
 * the LRU. Those lists are drained and the merge tried again, once per batch.
 */
static int mh_merge_retry(struct mh_merge *merge)
{
	unsigned int i;

	mh_drain();
	for (i = 0; i < merge->nr; i++) {
		merge->src[i].page = NULL;
		merge->dst[i].page = NULL;
		merge->joined[i] = NULL;
	}
	return mh_merge_try(merge);
}

/* Whatever came of it, the marks are used up. */
static void mh_disarm(struct mh_merge *merge)
{
	unsigned int i;

	for (i = 0; merge->armed && i < merge->nr; i++)
		xa_erase(&merge->arena->armed, merge->src[i].slot);
}

/* Context: arena->lock held. Returns pages saved, more than 0, or an errno. */
static int mh_merge_locked(struct mh_merge *merge, bool *may_drain)
{
	int gain, err;

	err = mh_merge_slots(merge);
	if (err)
		return err;
	if (mh_merge_shared(merge))
		return -EUSERS;
	gain = mh_merge_gain(merge);
	if (gain > 0) {
		err = mh_merge_try(merge);
		if (err == -EBUSY && *may_drain) {
			*may_drain = false;
			err = mh_merge_retry(merge);
		}
	} else {
		err = -ENOENT;
	}
	mh_disarm(merge);
	return err ?: gain;
}

/* Context: mmap_lock held for reading. */
static int mh_merge_in_mm(struct mh_merge *merge, struct mm_struct *mm, bool *may_drain)
{
	int ret = mh_merge_locate(merge, mm);

	if (ret)
		return ret;
	down_read(&merge->arena->family->tree);
	mutex_lock(&merge->arena->lock);
	merge->layer = merge->arena->top;
	ret = mh_merge_locked(merge, may_drain);
	mutex_unlock(&merge->arena->lock);
	up_read(&merge->arena->family->tree);
	return ret;
}

/*
 * Shall this pair and those after it be left alone? A worker of io_uring is told by a
 * notification that its request is cancelled: the ring is closed or the thread that
 * submitted it is waiting to exit. Anywhere else that flag means no more than work to do on
 * the way back to user space.
 */
static bool mh_cancelled(void)
{
	return fatal_signal_pending(current) ||
	       ((current->flags & PF_IO_WORKER) && test_thread_flag(TIF_NOTIFY_SIGNAL));
}

/**
 * mh_merge_pair - merge one pair of spans
 * @mm: the calling process
 * @pair: the request, a copy that user space cannot change
 * @mode: MESHHELPER_MERGE_ARMED or MESHHELPER_MERGE_ZAP
 * @may_drain: may the LRU lists of all CPUs be drained? Cleared when it was done.
 *
 * Context: process, no locks held; sleeps.
 * Return: pages saved, more than 0; a negative errno as described for struct
 * meshhelper_pair, with both spans as they were.
 */
int mh_merge_pair(struct mm_struct *mm, const struct meshhelper_pair *pair, u32 mode,
		  bool *may_drain)
{
	bool armed = mode == MESHHELPER_MERGE_ARMED;
	struct mh_merge *merge;
	int ret = -EINTR;

	mh_count(MH_COUNT_pairs_total, 1);
	if (mh_cancelled())
		goto count;
	ret = -EINVAL;
	if (!mh_pair_valid(pair))
		goto count;
	ret = -ENOMEM;
	merge = kzalloc(sizeof(*merge), GFP_KERNEL);
	if (!merge)
		goto count;
	merge->pair = pair;
	merge->armed = armed;
	ret = -EINTR;
	if (!mmap_read_lock_killable(mm)) {
		ret = mh_merge_in_mm(merge, mm, may_drain);
		if (ret > 0)
			trace_meshhelper_merge(pair, merge->arena->family, merge->src[0].index,
					       merge->dst[0].index, merge->dst[0].slot, armed,
					       ret);
		mmap_read_unlock(mm);
	}
	kfree(merge);
count:
	if (ret < 0) {
		mh_count_abort(ret);
		trace_meshhelper_abort(pair, armed, ret);
	}
	return ret;
}

/* Context: mmap_lock and arena->lock held. */
static int mh_arm_span(struct mh_arena *arena, pgoff_t index, unsigned int nr)
{
	unsigned int i;
	int err = 0;

	if (!mh_present(arena, index, nr))
		return -ENOENT;
	for (i = 0; i < nr && !err; i++)
		err = xa_err(xa_store(&arena->armed, mh_resolve(arena->top, index + i, NULL),
				      xa_mk_value(1), GFP_KERNEL));
	return err;
}

/* Context: mmap_lock held for reading. */
static int mh_arm_in_mm(struct mm_struct *mm, const struct meshhelper_pair *pair)
{
	struct vm_area_struct *vma = mh_find_span(mm, pair->src, pair->pages);
	struct mh_arena *arena;
	int err;

	if (!vma)
		return -EFAULT;
	arena = vma->vm_private_data;
	down_read(&arena->family->tree);
	mutex_lock(&arena->lock);
	err = mh_arm_span(arena, linear_page_index(vma, pair->src), pair->pages);
	mutex_unlock(&arena->lock);
	up_read(&arena->family->tree);
	return err;
}

/**
 * mh_arm_pair - watch the pages of a pair's source for writes
 * @mm: the calling process
 * @pair: the request; only @src and @pages count
 *
 * Context: process, no locks held; sleeps.
 * Return: 0 or a negative errno; some pages may be armed then, which does no harm.
 */
int mh_arm_pair(struct mm_struct *mm, const struct meshhelper_pair *pair)
{
	int ret;

	if (pair->flags || !pair->pages || pair->pages > MESHHELPER_MAX_SPAN_PAGES ||
	    !PAGE_ALIGNED(pair->src))
		return -EINVAL;
	if (mh_cancelled() || mmap_read_lock_killable(mm))
		return -EINTR;
	ret = mh_arm_in_mm(mm, pair);
	mmap_read_unlock(mm);
	return ret;
}
