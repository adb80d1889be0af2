// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * The model: what each arena of this process must contain, and the comparison.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct frame *frame_new(void)
{
	struct frame *frame = calloc(1, sizeof(*frame));

	if (!frame)
		die("calloc");
	return frame;
}

static void frame_put(struct frame *frame)
{
	if (frame && !--frame->refs)
		free(frame);
}

static void page_show(struct page *page, struct frame *frame)
{
	struct frame *old = page->frame;

	frame->refs++;
	page->frame = frame;
	frame_put(old);
}

/**
 * page_frame - the frame that a page shows, made if it shows plain zeroes
 * @page: the page
 *
 * Return: the frame.
 */
struct frame *page_frame(struct page *page)
{
	if (!page->frame)
		page_show(page, frame_new());
	return page->frame;
}

/* MADV_REMOVE: zeroes from now on, and a member of no group. */
void page_clear(struct page *page)
{
	frame_put(page->frame);
	page->frame = NULL;
}

static bool word_unknown(const struct frame *frame, unsigned int word)
{
	return frame->unknown[word / 64] >> (word % 64) & 1;
}

static void set_unknown(struct frame *frame, unsigned int word, bool unknown)
{
	uint64_t bit = 1ULL << (word % 64);

	if (unknown)
		frame->unknown[word / 64] |= bit;
	else
		frame->unknown[word / 64] &= ~bit;
}

/**
 * page_fill - record a write
 * @page: where
 * @first: first word
 * @nr: number of words
 * @words: what was written
 */
void page_fill(struct page *page, unsigned int first, unsigned int nr, const uint64_t *words)
{
	struct frame *frame = page_frame(page);
	unsigned int i;

	memcpy(&frame->word[first], words, nr * sizeof(*words));
	for (i = first; i < first + nr; i++)
		set_unknown(frame, i, false);
}

/* An arena ends with its last mapping, and so do its contents. */
void arena_forget_if_unmapped(struct arena *arena)
{
	unsigned int i;

	for (i = 0; i < arena->nr; i++)
		if (arena->page[i].addr)
			return;
	for (i = 0; i < arena->nr; i++)
		page_clear(&arena->page[i]);
	memset(arena, 0, sizeof(*arena));
}

struct arena *arena_unused(void)
{
	unsigned int i;

	for (i = 0; i < MAX_ARENAS; i++)
		if (!self.arena[i].nr)
			return &self.arena[i];
	return NULL;
}

bool pick_arena(struct arena **arena)
{
	*arena = &self.arena[below(MAX_ARENAS)];
	return (*arena)->nr;
}

static bool follows(struct arena *arena, unsigned int index)
{
	const struct page *a = &arena->page[index], *b = a + 1;

	return index + 1 < arena->nr && b->addr == a->addr + PAGE && b->prot == a->prot &&
	       b->locked == a->locked && b->not_forked == a->not_forked;
}

/* All around @index, which is mapped, that one system call should be able to handle. */
struct range run_of(struct arena *arena, unsigned int index)
{
	struct range run = { arena, index, 1 };

	while (run.first && follows(arena, run.first - 1) && arena->page[run.first - 1].addr)
		run.first--;
	run.nr = index - run.first + 1;
	while (follows(arena, run.first + run.nr - 1))
		run.nr++;
	return run;
}

/**
 * pick_range - choose some pages
 * @range: result
 * @max: most pages
 * @prot: PROT_* bits that they have to have
 *
 * Return: false if the choice fell on nothing that would do.
 */
bool pick_range(struct range *range, unsigned int max, int prot)
{
	struct arena *arena;
	unsigned int index, want;

	if (!pick_arena(&arena))
		return false;
	index = below(arena->nr);
	want = 1 + below(max);
	if (!arena->page[index].addr || (arena->page[index].prot & prot) != prot)
		return false;
	*range = (struct range) { arena, index, 1 };
	while (range->nr < want && follows(arena, index + range->nr - 1))
		range->nr++;
	return true;
}

char *range_addr(const struct range *range)
{
	return range->arena->page[range->first].addr;
}

size_t range_len(const struct range *range)
{
	return range->nr * PAGE;
}

static bool span_at(struct arena *arena, unsigned int first, unsigned int nr)
{
	const char *addr = arena->page[first].addr;
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (first + i >= arena->nr || arena->page[first + i].addr != addr + i * PAGE)
			return false;
	return true;
}

/**
 * find_span - find what an address means
 * @addr: any number
 * @nr: pages from there on
 * @span: result
 *
 * Return: whether all of it is in one arena of this process.
 */
bool find_span(uint64_t addr, unsigned int nr, struct range *span)
{
	unsigned int a, i;

	for (a = 0; a < MAX_ARENAS; a++) {
		for (i = 0; i < self.arena[a].nr; i++) {
			if (!addr || (uintptr_t)self.arena[a].page[i].addr != addr)
				continue;
			*span = (struct range) { &self.arena[a], i, nr };
			return span_at(&self.arena[a], i, nr);
		}
	}
	return false;
}

static bool slots_valid(const struct meshhelper_pair *pair)
{
	uint64_t slots, i;

	if (!pair->slot_size)
		return false;
	slots = pair->pages * PAGE / pair->slot_size;
	if (!slots || slots > MESHHELPER_MAX_SLOTS)
		return false;
	for (i = slots; i < MESHHELPER_MAX_SLOTS; i++)
		if (pair->live[i / 64] >> (i % 64) & 1)
			return false;
	return true;
}

/* Are the frames of the two spans, 2 n of them, all different? */
static bool frames_differ(const struct range *src, const struct range *dst)
{
	struct page *page[2 * MESHHELPER_MAX_SPAN_PAGES];
	unsigned int i, j, n = 0;

	for (i = 0; i < src->nr; i++) {
		page[n++] = &src->arena->page[src->first + i];
		page[n++] = &dst->arena->page[dst->first + i];
	}
	for (i = 0; i < n; i++)
		for (j = 0; j < i; j++)
			if (page[i] == page[j] ||
			    (page[i]->frame && page[i]->frame == page[j]->frame))
				return false;
	return true;
}

static bool any_locked(const struct range *range)
{
	unsigned int i;

	for (i = 0; i < range->nr; i++)
		if (range->arena->page[range->first + i].locked)
			return true;
	return false;
}

/**
 * pair_allowed - may the module merge this?
 * @pair: any bytes
 *
 * Return: false if a result of 0 would be wrong.
 */
bool pair_allowed(const struct meshhelper_pair *pair)
{
	struct range src, dst;

	return !pair->flags && pair->pages && pair->pages <= MESHHELPER_MAX_SPAN_PAGES &&
	       slots_valid(pair) && find_span(pair->src, pair->pages, &src) &&
	       find_span(pair->dst, pair->pages, &dst) && src.arena == dst.arena &&
	       !any_locked(&src) && !any_locked(&dst) && frames_differ(&src, &dst);
}

static bool slot_live(const struct meshhelper_pair *pair, unsigned int slot)
{
	return slot < MESHHELPER_MAX_SLOTS && pair->live[slot / 64] >> (slot % 64) & 1;
}

/* Is byte @at of the span in a live slot? */
static bool byte_live(const struct meshhelper_pair *pair, size_t at)
{
	return slot_live(pair, at / pair->slot_size);
}

/* Word @word of page @i of a span: its bytes in live slots come from src. */
static void copy_word(const struct meshhelper_pair *pair, unsigned int i, unsigned int word,
		      struct frame *dst, const struct frame *src)
{
	size_t at = i * PAGE + word * sizeof(uint64_t);
	char *to = (char *)&dst->word[word];
	const char *from = (const char *)&src->word[word];
	bool any = false, all = true;
	unsigned int b;

	for (b = 0; b < sizeof(uint64_t); b++) {
		bool live = byte_live(pair, at + b);

		any |= live;
		all &= live;
		if (live)
			to[b] = from[b];
	}
	if (any)
		set_unknown(dst, word, word_unknown(src, word) ||
			    (!all && word_unknown(dst, word)));
}

static void share(struct arena *arena, struct frame *from, struct frame *to)
{
	unsigned int i;

	/* The last page to leave frees it: hold it till the loop is over. */
	from->refs++;
	for (i = 0; i < arena->nr; i++)
		if (arena->page[i].frame == from)
			page_show(&arena->page[i], to);
	frame_put(from);
}

static void model_merged(const struct meshhelper_pair *pair, struct range *src,
			 struct range *dst)
{
	unsigned int i, word;

	for (i = 0; i < pair->pages; i++) {
		struct frame *from = page_frame(&src->arena->page[src->first + i]);
		struct frame *to = page_frame(&dst->arena->page[dst->first + i]);

		for (word = 0; word < WORDS; word++)
			copy_word(pair, i, word, to, from);
		share(src->arena, from, to);
	}
}

/* Armed mode copies before its last check. */
static void model_maybe_copied(const struct meshhelper_pair *pair, struct range *dst)
{
	unsigned int i, word, b;

	for (i = 0; i < pair->pages; i++) {
		struct frame *to = page_frame(&dst->arena->page[dst->first + i]);

		for (word = 0; word < WORDS; word++)
			for (b = 0; b < sizeof(uint64_t); b++)
				if (byte_live(pair, i * PAGE + word * sizeof(uint64_t) + b))
					set_unknown(to, word, true);
	}
}

/**
 * model_result - record what a request did to a pair
 * @pair: with its result
 * @mode: MESHHELPER_MERGE_*
 */
void model_result(const struct meshhelper_pair *pair, uint32_t mode)
{
	struct range src, dst;
	bool allowed = pair_allowed(pair);

	if (!pair->result && !allowed)
		fail("merged what must not be: src %llx dst %llx pages %u slot_size %u flags %x",
		     (unsigned long long)pair->src, (unsigned long long)pair->dst, pair->pages,
		     pair->slot_size, pair->flags);
	if (!allowed)
		return;
	find_span(pair->src, pair->pages, &src);
	find_span(pair->dst, pair->pages, &dst);
	if (!pair->result)
		model_merged(pair, &src, &dst);
	else if (mode == MESHHELPER_MERGE_ARMED)
		model_maybe_copied(pair, &dst);
}

static void wrong_word(struct page *page, unsigned int index, const char *addr,
		       unsigned int word, uint64_t actual)
{
	uint64_t expected = page->frame ? page->frame->word[word] : 0;
	unsigned int i, bad = 0;

	for (i = word; i < WORDS; i++)
		bad += ((const volatile uint64_t *)addr)[i] !=
		       (page->frame ? page->frame->word[i] : 0);
	fail("page %u at %p, %u in its group, word %u: expected %016llx, actual %016llx; "
	     "%u of the %lu words from there on differ", index, (void *)addr,
	     page->frame ? page->frame->refs : 1, word, (unsigned long long)expected,
	     (unsigned long long)actual, bad, WORDS - word);
}

static void check_zero(struct page *page, unsigned int index, const char *addr)
{
	const volatile uint64_t *words = (const void *)addr;
	unsigned int i;

	for (i = 0; i < WORDS; i++)
		if (words[i])
			wrong_word(page, index, addr, i, words[i]);
}

/**
 * check_at - compare memory with what a page must show
 * @page: the page
 * @index: its number
 * @addr: where to look; a page may be mapped twice
 *
 * A word that may be anything is what it is from now on.
 */
void check_at(struct page *page, unsigned int index, const char *addr)
{
	const volatile uint64_t *words = (const void *)addr;
	struct frame *frame = page->frame;
	unsigned int i;

	if (!frame) {
		check_zero(page, index, addr);
		return;
	}
	for (i = 0; i < WORDS; i++) {
		uint64_t actual = words[i];

		if (actual == frame->word[i])
			continue;
		if (!word_unknown(frame, i))
			wrong_word(page, index, addr, i, actual);
		frame->word[i] = actual;
	}
	memset(frame->unknown, 0, sizeof(frame->unknown));
}

void check_range(const struct range *range)
{
	unsigned int i;

	for (i = 0; i < range->nr; i++) {
		struct page *page = &range->arena->page[range->first + i];

		if (page->addr && (page->prot & PROT_READ))
			check_at(page, range->first + i, page->addr);
	}
}

void check_all(void)
{
	unsigned int i;

	for (i = 0; i < MAX_ARENAS; i++) {
		struct range all = { &self.arena[i], 0, self.arena[i].nr };

		check_range(&all);
	}
}

/* Physical frame number; 0: none at the moment, or nobody may know. */
static uint64_t pfn_of(int pagemap, const char *addr)
{
	uint64_t entry;

	(void)*(const volatile char *)addr;
	if (pread(pagemap, &entry, sizeof(entry), (uintptr_t)addr / PAGE * sizeof(entry)) !=
	    sizeof(entry))
		return 0;
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* Swapping may give the page another frame between two looks. */
static bool same_frame(int pagemap, const char *a, const char *b)
{
	unsigned int try;

	for (try = 0; try < 5; try++) {
		uint64_t first = pfn_of(pagemap, a), second = pfn_of(pagemap, b);

		if (!first || !second || first == second)
			return true;
		if (first == pfn_of(pagemap, a) && second == pfn_of(pagemap, b))
			return false;
	}
	return true;
}

static bool readable(const struct page *page)
{
	return page->addr && (page->prot & PROT_READ);
}

/* What shares a frame in the model shares one in the machine, and nothing else does. */
void check_shared(struct arena *arena)
{
	unsigned int a = below(arena->nr), b = below(arena->nr);
	struct page *first = &arena->page[a], *second = &arena->page[b];
	bool shared = a == b || (first->frame && first->frame == second->frame);
	int pagemap;

	if (!shared || !readable(first) || !readable(second))
		return;
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (pagemap < 0)
		die("/proc/self/pagemap");
	if (!same_frame(pagemap, first->addr, second->addr))
		fail("pages %u and %u are merged, but show two physical pages", a, b);
	close(pagemap);
}
