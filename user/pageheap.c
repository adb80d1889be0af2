/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Free runs of pages: boundary tags in the page table, bins by length with a
 * bitmap of the bins in use, best fit. Clean and dirty runs never coalesce with
 * each other, so that "reads as zero" stays true of whole runs.
 */
#include <errno.h>
#include <limits.h>

#include "os.h"
#include "pageheap.h"
#include "region.h"

#define CHUNK_MIN	((size_t)256)		/* 1 MiB */
#define CHUNK_MAX	((size_t)16384)		/* 64 MiB */

/* Dirty pages that are kept while clean ones are taken: this, and in_use / DIRTY_SHARE. */
#define DIRTY_MIN	((size_t)256)

/* Pages that malloc may give back on its way, or twice what it takes. */
#define PURGE_MIN	((size_t)1024)

/* Pages that wait for a purge: this, and in_use / LATER_SHARE, which malloc makes no more. */
#define LATER_MIN	((size_t)256)
#define LATER_SHARE	16

/* Runs of one bin that are looked at to find the shortest. */
#define LOOK_AT_MOST	32

/* What cannot be purged is tried in so many parts, until so many in a row cannot. */
#define PARTS		16
#define HOPELESS	4

/* Most pages skipped at a time to get behind a foreign mapping: 4 GiB. */
#define SKIP_MAX	((size_t)1 << (32 - PAGE_SHIFT))

static struct pageheap_kind *kind_of(struct pageheap *ph, unsigned int state)
{
	return state == SPAN_CLEAN ? &ph->clean : &ph->dirty;
}

static unsigned int bin_of(size_t nr_pages)
{
	unsigned int log;

	if (nr_pages < PAGEHEAP_EXACT)
		return (unsigned int)nr_pages;
	if (nr_pages >= RUN_MAX_PAGES)
		return PAGEHEAP_BINS - 1;
	log = 63 - (unsigned int)__builtin_clzll(nr_pages);
	return PAGEHEAP_EXACT + (log - 8) * 4 + (unsigned int)(nr_pages >> (log - 2) & 3);
}

static void set_tags(struct span *s)
{
	region.page_span[s->page] = span_id(s);
	region.page_span[s->page + s->nr_pages - 1] = span_id(s);
}

static void bin_add(struct pageheap *ph, struct span *s)
{
	struct pageheap_kind *k = kind_of(ph, s->state);
	unsigned int bin = bin_of(s->nr_pages);

	set_tags(s);
	span_list_add_head(&k->bins[bin], s);
	k->used[bin / 64] |= 1ULL << bin % 64;
	k->pages += s->nr_pages;
}

static void bin_del(struct pageheap *ph, struct span *s)
{
	struct pageheap_kind *k = kind_of(ph, s->state);
	unsigned int bin = bin_of(s->nr_pages);

	span_list_del(&k->bins[bin], s);
	if (!k->bins[bin].first)
		k->used[bin / 64] &= ~(1ULL << bin % 64);
	k->pages -= s->nr_pages;
}

/*
 * The free run of @state that ends before or starts at @page, if there is one. If it is a span
 * with slots there, its state may change meanwhile, but not to that of a free run.
 */
static struct span *free_neighbour(struct pageheap *ph, size_t page, unsigned int state)
{
	struct span *s;

	if (page < ph->first_page || page >= ph->first_page + ph->nr_pages)
		return NULL;
	s = span_at(region.page_span[page]);
	return __atomic_load_n(&s->state, __ATOMIC_RELAXED) == state ? s : NULL;
}

/* Put a run into the bins as @state, together with its neighbours of that kind. */
static void insert_run(struct pageheap *ph, struct span *s, unsigned int state)
{
	struct span *before = free_neighbour(ph, (size_t)s->page - 1, state);
	struct span *after = free_neighbour(ph, (size_t)s->page + s->nr_pages, state);

	if (before) {
		bin_del(ph, before);
		s->page = before->page;
		s->nr_pages += before->nr_pages;
		span_delete(before);
	}
	if (after) {
		bin_del(ph, after);
		s->nr_pages += after->nr_pages;
		span_delete(after);
	}
	s->state = (uint8_t)state;
	s->cls = 0;
	bin_add(ph, s);
}

/* The first bin in use from @bin on; PAGEHEAP_BINS when there is none. */
static unsigned int next_bin(const struct pageheap_kind *k, unsigned int bin)
{
	uint64_t word;
	unsigned int i = bin / 64;

	if (bin >= PAGEHEAP_BINS)
		return PAGEHEAP_BINS;
	word = k->used[i] & ~0ULL << bin % 64;
	while (!word) {
		if (++i == ARRAY_SIZE(k->used))
			return PAGEHEAP_BINS;
		word = k->used[i];
	}
	return i * 64 + (unsigned int)__builtin_ctzll(word);
}

/* The shortest run with at least @nr_pages among the first ones of a bin. */
static struct span *shortest_in(const struct span_list *bin, size_t nr_pages)
{
	struct span *best = NULL;
	unsigned int looked = 0;

	for (uint32_t id = bin->first; id && looked < LOOK_AT_MOST; looked++) {
		struct span *s = span_at(id);

		if (s->nr_pages >= nr_pages && (!best || s->nr_pages < best->nr_pages))
			best = s;
		id = s->next;
	}
	return best;
}

/* A short run with at least @nr_pages. Only runs of one bin of PAGEHEAP_EXACT are alike. */
static struct span *find_run(const struct pageheap_kind *k, size_t nr_pages)
{
	unsigned int bin = next_bin(k, bin_of(nr_pages));
	struct span *s;

	if (bin < PAGEHEAP_EXACT)
		return span_at(k->bins[bin].first);
	for (; bin < PAGEHEAP_BINS; bin = next_bin(k, bin + 1)) {
		s = shortest_in(&k->bins[bin], nr_pages);
		if (s)
			return s;
	}
	return NULL;
}

/*
 * Split @s, which is on no list: the first @nr_pages stay with it, the rest gets
 * a descriptor of its own.
 */
static struct span *split(struct span *s, size_t nr_pages)
{
	struct span *rest = span_new();

	if (!rest)
		return NULL;
	rest->page = s->page + (uint32_t)nr_pages;
	rest->nr_pages = s->nr_pages - (uint32_t)nr_pages;
	rest->state = s->state;
	s->nr_pages = (uint32_t)nr_pages;
	return rest;
}

/* Cut the free run @s down to @nr_pages at an aligned page and take it. */
static struct span *take_run(struct pageheap *ph, struct span *s, size_t nr_pages,
			     size_t align)
{
	unsigned int state = s->state;
	size_t skip = round_up(s->page, align) - s->page;
	struct span *rest;

	bin_del(ph, s);
	if (skip) {
		rest = split(s, skip);
		bin_add(ph, s);
		if (!rest)
			return NULL;
		s = rest;
	}
	if (s->nr_pages > nr_pages) {
		rest = split(s, nr_pages);
		if (!rest) {
			insert_run(ph, s, state);
			return NULL;
		}
		bin_add(ph, rest);
	}
	s->state = SPAN_LARGE;
	set_tags(s);
	return s;
}

static int map_more(struct pageheap *ph, size_t nr)
{
	char *start = region_page_addr(ph->first_page);

	if (!ph->nr_pages)
		return ph->ops->map(start, nr << PAGE_SHIFT);
	return ph->ops->grow(start, ph->nr_pages << PAGE_SHIFT,
			     (ph->nr_pages + nr) << PAGE_SHIFT);
}

/* Have table entries for @nr pages more; those of an area that was longer are there. */
static int map_tables(struct pageheap *ph, size_t nr)
{
	size_t end = ph->nr_pages + nr;
	int ret;

	if (end <= ph->table_pages)
		return 0;
	ret = region_map_tables(ph->first_page + (uint32_t)ph->table_pages,
				end - ph->table_pages);
	if (!ret)
		ph->table_pages = end;
	return ret;
}

/* Undo that; @before was the number of pages that had some. */
static void unmap_tables(struct pageheap *ph, size_t before)
{
	if (ph->table_pages > before)
		region_unmap_tables(ph->first_page + (uint32_t)before,
				    ph->table_pages - before);
	ph->table_pages = before;
}

/* The area and its tables are @nr pages longer from now on; @s describes those. */
static void extend(struct pageheap *ph, struct span *s, size_t nr)
{
	s->page = ph->first_page + (uint32_t)ph->nr_pages;
	s->nr_pages = (uint32_t)nr;
	ph->nr_pages += nr;
	atomic_store_explicit(ph->end, (uint32_t)ph->nr_pages, memory_order_release);
}

/* Add @nr clean pages at the end of the area. Returns 0 or -errno. */
static int grow_by(struct pageheap *ph, size_t nr)
{
	size_t table_pages = ph->table_pages;
	int ret = -ENOMEM;
	struct span *s;

	if (nr > ph->max_pages - ph->nr_pages)
		return ret;
	s = span_new();
	if (!s)
		return ret;
	if (map_tables(ph, nr))
		goto no_tables;
	ret = map_more(ph, nr);
	if (ret)
		goto no_memory;
	extend(ph, s, nr);
	insert_run(ph, s, SPAN_CLEAN);
	return 0;

no_memory:
	unmap_tables(ph, table_pages);
no_tables:
	span_delete(s);
	return ret;
}

/* Count @nr pages at the end of the area as lost: something else is mapped there. */
static bool skip(struct pageheap *ph, size_t nr)
{
	struct span *s;

	if (nr > ph->max_pages - ph->nr_pages)
		return false;
	s = span_new();
	if (!s)
		return false;
	if (map_tables(ph, nr)) {
		span_delete(s);
		return false;
	}
	extend(ph, s, nr);
	s->state = SPAN_LOST;
	set_tags(s);
	ph->lost_pages += nr;
	return true;
}

/* Go on behind a foreign mapping, further away each time. */
static bool grow_behind(struct pageheap *ph, size_t least)
{
	int ret = -EEXIST;

	for (size_t nr = CHUNK_MIN; ret == -EEXIST && nr <= SKIP_MAX; nr *= 2)
		ret = skip(ph, nr) ? grow_by(ph, least) : -ENOMEM;
	return ret == 0;
}

/* Clean pages that are free at the end of the area. */
static size_t clean_at_end(struct pageheap *ph)
{
	struct span *s = free_neighbour(ph, (size_t)ph->first_page + ph->nr_pages - 1,
					SPAN_CLEAN);

	return s ? s->nr_pages : 0;
}

/*
 * Make the area end with at least @nr_pages clean pages, in the run that is found first:
 * grow by a chunk that is in proportion, or by the least that helps.
 */
static bool grow(struct pageheap *ph, size_t nr_pages)
{
	size_t has = clean_at_end(ph);
	size_t more = has < nr_pages ? nr_pages - has : nr_pages;
	size_t least = round_up(more, 16);
	size_t chunk = round_up(max_size(ph->nr_pages / 8, more), CHUNK_MIN);
	int ret;

	chunk = max_size(min_size(chunk, CHUNK_MAX), least);
	if (!grow_by(ph, chunk))
		return true;
	ret = grow_by(ph, least);
	if (ret == -EEXIST && ph->ops->may_skip && ph->nr_pages)
		return grow_behind(ph, round_up(nr_pages, 16));
	return ret == 0;
}

/* The clean run that starts at @page; made longer when it is the end of the area. */
static struct span *clean_behind(struct pageheap *ph, size_t page, size_t nr_pages)
{
	struct span *next = free_neighbour(ph, page, SPAN_CLEAN);
	size_t len = next ? next->nr_pages : 0;

	if (len < nr_pages && page + len == ph->first_page + ph->nr_pages)
		grow(ph, nr_pages);
	return free_neighbour(ph, page, SPAN_CLEAN);
}

/* @s grows by the first @nr pages of the free run @next, which follows it. */
static bool absorb(struct pageheap *ph, struct span *s, struct span *next, size_t nr)
{
	next = take_run(ph, next, nr, 1);
	if (!next)
		return false;
	span_delete(next);
	s->nr_pages += (uint32_t)nr;
	set_tags(s);
	return true;
}

static void count_recent(struct pageheap *ph, size_t pages)
{
	ph->recent_pages += pages;
	ph->dirty.pages += pages;
}

/* Keep the run @s as it is, unless it is long, or enough are kept. */
static bool keep_recent(struct pageheap *ph, struct span *s)
{
	if (s->nr_pages > RECENT_LENGTHS || ph->recent_pages + s->nr_pages > RECENT_PAGES)
		return false;
	s->state = SPAN_RECENT;
	s->cls = 0;
	span_list_add_head(&ph->recent[s->nr_pages], s);
	count_recent(ph, s->nr_pages);
	return true;
}

/* Its pages have their tags still. */
static struct span *take_recent(struct pageheap *ph, size_t nr_pages)
{
	struct span *s;

	if (nr_pages > RECENT_LENGTHS || !ph->recent[nr_pages].first)
		return NULL;
	s = span_at(ph->recent[nr_pages].first);
	span_list_del(&ph->recent[nr_pages], s);
	count_recent(ph, -nr_pages);
	s->state = SPAN_LARGE;
	return s;
}

/* Let all recent runs join their neighbours. */
static void drain_recent(struct pageheap *ph)
{
	for (size_t nr = 1; nr <= RECENT_LENGTHS && ph->recent_pages; nr++) {
		struct span *s;

		while ((s = take_recent(ph, nr)))
			insert_run(ph, s, SPAN_DIRTY);
	}
}

/* Into the dirty run that follows, and then into a clean one. */
static bool extend_locked(struct pageheap *ph, struct span *s, size_t nr_pages)
{
	size_t end = (size_t)s->page + s->nr_pages;
	size_t more = nr_pages - s->nr_pages;
	struct span *clean = NULL, *dirty;
	size_t warm;

	drain_recent(ph);
	dirty = free_neighbour(ph, end, SPAN_DIRTY);
	warm = dirty ? min_size(dirty->nr_pages, more) : 0;
	if (warm < more) {
		clean = clean_behind(ph, end + warm, more - warm);
		if (!clean || clean->nr_pages < more - warm)
			return false;
	}
	return (!warm || absorb(ph, s, dirty, warm)) &&
	       (!clean || absorb(ph, s, clean, more - warm));
}

/* Take @s, which is too short, and what is behind it, or leave it where it is. */
static bool extend_dirty(struct pageheap *ph, struct span *s, size_t nr_pages)
{
	struct span *clean = NULL;

	if (s->nr_pages < nr_pages)
		clean = clean_behind(ph, (size_t)s->page + s->nr_pages,
				     nr_pages - s->nr_pages);
	if (!clean || s->nr_pages + clean->nr_pages < nr_pages)
		return false;
	bin_del(ph, s);
	s->state = SPAN_LARGE;
	if (absorb(ph, s, clean, nr_pages - s->nr_pages))
		return true;
	s->state = SPAN_DIRTY;
	bin_add(ph, s);
	return false;
}

/*
 * Take a dirty run that is too short, together with clean pages behind it: memory that is
 * resident comes into use, and only the rest is touched anew.
 */
static struct span *join_run(struct pageheap *ph, size_t nr_pages)
{
	unsigned int looked = 0;

	for (unsigned int bin = PAGEHEAP_BINS - 1; bin >= PAGEHEAP_EXACT; bin--)
		for (uint32_t id = ph->dirty.bins[bin].first; id && looked < LOOK_AT_MOST;
		     looked++) {
			struct span *s = span_at(id);

			id = s->next;
			if (extend_dirty(ph, s, nr_pages))
				return s;
		}
	return NULL;
}

/* Recent runs are whole for their own length only. */
static struct span *find_dirty(struct pageheap *ph, size_t nr_pages)
{
	struct span *s = find_run(&ph->dirty, nr_pages);

	if (ph->recent_pages && (!s || s->nr_pages != nr_pages)) {
		drain_recent(ph);
		s = find_run(&ph->dirty, nr_pages);
	}
	return s;
}

/* Warm pages first, unless zeros are wanted. */
static struct span *find_either(struct pageheap *ph, size_t nr_pages, bool want_zero)
{
	struct span *s = want_zero ? find_run(&ph->clean, nr_pages) : find_dirty(ph, nr_pages);

	if (s)
		return s;
	return want_zero ? find_dirty(ph, nr_pages) : find_run(&ph->clean, nr_pages);
}

static struct span *alloc_locked(struct pageheap *ph, size_t nr_pages, size_t align,
				 bool *zero)
{
	size_t need = nr_pages + align - 1;
	struct span *s = need == nr_pages && !zero ? take_recent(ph, nr_pages) : NULL;

	if (s)
		return s;
	s = find_either(ph, need, zero != NULL);
	if (nr_pages >= PAGEHEAP_EXACT && align == 1 && !zero &&
	    (!s || s->state == SPAN_CLEAN)) {
		struct span *joint = join_run(ph, nr_pages);

		if (joint)
			return joint;
	}
	if (!s && grow(ph, need))
		s = find_run(&ph->clean, need);
	if (!s)
		return NULL;
	if (zero)
		*zero = s->state == SPAN_CLEAN;
	return take_run(ph, s, nr_pages, align);
}

static size_t in_use(const struct pageheap *ph)
{
	return ph->nr_pages - ph->clean.pages - ph->dirty.pages - ph->purging_pages -
	       ph->lost_pages;
}

static size_t too_dirty(const struct pageheap *ph)
{
	size_t keep = DIRTY_MIN + in_use(ph) / ph->dirty_share;

	return ph->dirty.pages > keep ? ph->dirty.pages - keep / 2 : 0;
}

static void purge_excess(struct pageheap *ph, size_t most)
{
	size_t excess;

	lock_acquire(&ph->lock);
	excess = too_dirty(ph);
	lock_release(&ph->lock);
	if (excess)
		pageheap_purge(ph, min_size(excess, most));
}

/* As alloc_locked(); @fresh is set when clean pages were taken. */
static struct span *alloc_and_look(struct pageheap *ph, size_t nr_pages, size_t align,
				   bool *zero, bool *fresh)
{
	size_t clean, mapped;
	struct span *s;

	lock_acquire(&ph->lock);
	clean = ph->clean.pages;
	mapped = ph->nr_pages;
	s = alloc_locked(ph, nr_pages, align, zero);
	*fresh = ph->clean.pages != clean || ph->nr_pages != mapped;
	lock_release(&ph->lock);
	return s;
}

/*
 * When clean pages come into use although there are dirty ones, which are too short or in
 * the other heap, some of those are given back, lest the memory that is resident grows by
 * both. A program pays for that only while it takes as many clean pages, and in proportion.
 */
struct span *pageheap_alloc(struct pageheap *ph, size_t nr_pages, size_t align_pages,
			    bool *zero)
{
	size_t most = max_size(2 * nr_pages, PURGE_MIN);
	bool fresh;
	struct span *s = alloc_and_look(ph, nr_pages, align_pages, zero, &fresh);

	/* clean and dirty neighbours become one run when they are purged */
	if (unlikely(!s) && pageheap_purge(ph, SIZE_MAX))
		s = alloc_and_look(ph, nr_pages, align_pages, zero, &fresh);
	if (unlikely(fresh)) {
		purge_excess(&heap_arena, most);
		purge_excess(&heap_anon, most);
	}
	return s;
}

static void mark_purging(struct pageheap *ph, struct span *s)
{
	s->state = SPAN_PURGING;
	s->cls = 0;
	set_tags(s);
	span_list_add_tail(&ph->purging, s);
	ph->purging_pages += s->nr_pages;
}

static void unmark_purging(struct pageheap *ph, struct span *s)
{
	span_list_del(&ph->purging, s);
	ph->purging_pages -= s->nr_pages;
}

/* Nobody may see these pages again, or use them, before they are purged. */
static void mark_lost(struct pageheap *ph, struct span *s)
{
	s->state = SPAN_LOST;
	s->cls = 0;
	set_tags(s);
	ph->lost_pages += s->nr_pages;
	span_list_add_tail(&ph->lost, s);
}

/* End of a purge of pages that nobody may see again when it failed. */
static void finish_private(struct pageheap *ph, struct span *s, bool purged)
{
	unmark_purging(ph, s);
	if (purged) {
		ph->purged_pages += s->nr_pages;
		insert_run(ph, s, SPAN_CLEAN);
	} else {
		mark_lost(ph, s);
	}
}

static bool purge_pages(struct pageheap *ph, struct span *s)
{
	return ph->ops->purge(span_addr(s), (size_t)s->nr_pages << PAGE_SHIFT) == 0;
}

static bool can_wait(const struct pageheap *ph)
{
	return ph->purges_later && ph->lost_pages < LATER_MIN + in_use(ph) / LATER_SHARE;
}

void pageheap_free_purged(struct pageheap *ph, struct span *s)
{
	bool purged, later;

	lock_acquire(&ph->lock);
	later = can_wait(ph);
	if (later)
		mark_lost(ph, s);
	else
		mark_purging(ph, s);
	lock_release(&ph->lock);
	if (later)
		return;
	purged = purge_pages(ph, s);
	lock_acquire(&ph->lock);
	finish_private(ph, s, purged);
	lock_release(&ph->lock);
}

static struct span *take_lost(struct pageheap *ph)
{
	struct span *s = NULL;

	lock_acquire(&ph->lock);
	if (ph->lost.first) {
		s = span_at(ph->lost.first);
		span_list_del(&ph->lost, s);
		ph->lost_pages -= s->nr_pages;
		mark_purging(ph, s);
	}
	lock_release(&ph->lock);
	return s;
}

/* There may be mappings again, which is what a purge can lack. */
bool pageheap_purge_lost(struct pageheap *ph, unsigned int max_runs)
{
	for (; max_runs; max_runs--) {
		struct span *s = take_lost(ph);
		bool purged;

		if (!s)
			return false;
		purged = purge_pages(ph, s);
		lock_acquire(&ph->lock);
		finish_private(ph, s, purged);
		lock_release(&ph->lock);
		if (!purged)
			return false;
	}
	return true;
}

bool pageheap_free(struct pageheap *ph, struct span *s)
{
	bool valid;

	if (ph->ops->merged && s->state == SPAN_LARGE && ph->ops->merged(span_addr(s))) {
		pageheap_free_purged(ph, s);
		return true;
	}
	lock_acquire(&ph->lock);
	valid = s->state == SPAN_LARGE;
	if (valid && !keep_recent(ph, s))
		insert_run(ph, s, SPAN_DIRTY);
	lock_release(&ph->lock);
	return valid;
}

static bool shrink_locked(struct pageheap *ph, struct span *s, size_t nr_pages)
{
	struct span *rest = split(s, nr_pages);

	if (!rest)
		return false;
	set_tags(s);
	insert_run(ph, rest, SPAN_DIRTY);
	return true;
}

bool pageheap_resize(struct pageheap *ph, struct span *s, size_t nr_pages)
{
	bool done = true;

	lock_acquire(&ph->lock);
	if (nr_pages < s->nr_pages)
		done = shrink_locked(ph, s, nr_pages);
	else if (nr_pages > s->nr_pages)
		done = extend_locked(ph, s, nr_pages);
	lock_release(&ph->lock);
	return done;
}

/* Some dirty run, from the longest bin. */
static struct span *longest_dirty(struct pageheap *ph)
{
	unsigned int i = ARRAY_SIZE(ph->dirty.used);

	while (i--)
		if (ph->dirty.used[i]) {
			unsigned int bit = 63 - (unsigned int)__builtin_clzll(ph->dirty.used[i]);

			return span_at(ph->dirty.bins[i * 64 + bit].first);
		}
	return NULL;
}

/* Without a descriptor for the rest it is all of the run. */
static struct span *take_dirty(struct pageheap *ph, struct span *s, size_t max_pages)
{
	struct span *rest = NULL;

	bin_del(ph, s);
	if (s->nr_pages > max_pages)
		rest = split(s, max_pages);
	mark_purging(ph, s);
	if (rest)
		insert_run(ph, rest, SPAN_DIRTY);
	return s;
}

struct span *pageheap_purge_begin(struct pageheap *ph, size_t max_pages)
{
	struct span *s;

	lock_acquire(&ph->lock);
	drain_recent(ph);
	s = longest_dirty(ph);
	if (s)
		s = take_dirty(ph, s, max_pages);
	lock_release(&ph->lock);
	return s;
}

void pageheap_purge_end(struct pageheap *ph, struct span *s, bool purged)
{
	lock_acquire(&ph->lock);
	unmark_purging(ph, s);
	if (purged)
		ph->purged_pages += s->nr_pages;
	insert_run(ph, s, purged ? SPAN_CLEAN : SPAN_DIRTY);
	lock_release(&ph->lock);
}

/* What is behind the first @nr pages of a run that is being purged, or NULL. */
static struct span *cut_off(struct pageheap *ph, struct span *s, size_t nr)
{
	struct span *rest = NULL;

	lock_acquire(&ph->lock);
	if (s->nr_pages > nr) {
		unmark_purging(ph, s);
		rest = split(s, nr);
		mark_purging(ph, s);
		if (rest)
			mark_purging(ph, rest);
	}
	lock_release(&ph->lock);
	return rest;
}

static size_t purge_one(struct pageheap *ph, struct span *s)
{
	size_t nr = s->nr_pages;
	bool purged = purge_pages(ph, s);

	pageheap_purge_end(ph, s, purged);
	return purged ? nr : 0;
}

/* Those that cannot be purged are a shorter run the next time, and come after others. */
size_t pageheap_purge_parts(struct pageheap *ph, struct span *s)
{
	size_t nr = max_size(s->nr_pages / PARTS, 1), done = 0;
	unsigned int failures = 0;

	if (s->nr_pages == 1)
		failures = HOPELESS;
	while (s && failures < HOPELESS) {
		struct span *rest = cut_off(ph, s, nr);
		size_t some = purge_one(ph, s);

		failures = some ? 0 : failures + 1;
		done += some;
		s = rest;
	}
	if (s)
		pageheap_purge_end(ph, s, false);
	return done;
}

size_t pageheap_purge(struct pageheap *ph, size_t max_pages)
{
	size_t done = 0, some = 1;

	pageheap_purge_lost(ph, UINT_MAX);
	while (some && done < max_pages) {
		struct span *s = pageheap_purge_begin(ph, max_pages - done);

		if (!s)
			break;
		some = s->nr_pages;
		if (purge_pages(ph, s))
			pageheap_purge_end(ph, s, true);
		else
			some = pageheap_purge_parts(ph, s);
		done += some;
	}
	return done;
}

static size_t shrink_end(struct pageheap *ph)
{
	size_t end = (size_t)ph->first_page + ph->nr_pages, clean = clean_at_end(ph), nr;
	struct span *s;

	if (!ph->ops->may_shrink || ph->nr_pages <= CHUNK_MIN)
		return 0;
	nr = min_size(clean, ph->nr_pages - CHUNK_MIN);
	if (!nr || os_unmap(region_page_addr((uint32_t)(end - nr)), nr << PAGE_SHIFT))
		return 0;
	s = free_neighbour(ph, end - 1, SPAN_CLEAN);
	bin_del(ph, s);
	ph->nr_pages -= nr;
	atomic_store_explicit(ph->end, (uint32_t)ph->nr_pages, memory_order_release);
	s->nr_pages -= (uint32_t)nr;
	if (s->nr_pages)
		bin_add(ph, s);
	else
		span_delete(s);
	return nr;
}

size_t pageheap_shrink(struct pageheap *ph)
{
	size_t nr;

	lock_acquire(&ph->lock);
	nr = shrink_end(ph);
	lock_release(&ph->lock);
	return nr;
}

void pageheap_purge_later(struct pageheap *ph, bool later)
{
	lock_acquire(&ph->lock);
	ph->purges_later = later;
	lock_release(&ph->lock);
}

size_t pageheap_in_use(struct pageheap *ph)
{
	size_t pages;

	lock_acquire(&ph->lock);
	pages = in_use(ph);
	lock_release(&ph->lock);
	return pages;
}

size_t pageheap_dirty(struct pageheap *ph)
{
	size_t pages;

	lock_acquire(&ph->lock);
	pages = ph->dirty.pages;
	lock_release(&ph->lock);
	return pages;
}

size_t pageheap_spare(struct pageheap *ph)
{
	size_t pages;

	lock_acquire(&ph->lock);
	pages = ph->clean.pages + ph->dirty.pages;
	lock_release(&ph->lock);
	return pages;
}

void pageheap_fork_prepare(struct pageheap *ph)
{
	lock_fork_acquire(&ph->lock);
}

void pageheap_fork_parent(struct pageheap *ph)
{
	lock_fork_release(&ph->lock);
}

/*
 * The threads that were purging do not exist here, nor who would do it later. Their runs
 * may still show the memory of a mesh group, so they are purged before anything else. The
 * caller still owns all locks.
 */
void pageheap_fork_child(struct pageheap *ph)
{
	ph->purges_later = false;
	while (ph->purging.first) {
		struct span *s = span_at(ph->purging.first);

		finish_private(ph, s, purge_pages(ph, s));
	}
	lock_fork_release(&ph->lock);
}
