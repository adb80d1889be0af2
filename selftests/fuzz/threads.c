// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Writers at work while their process merges, removes and forks.
 *
 * Pages are cut into stripes. A page owns some stripes that no other page of its group
 * owns, as slots in use would be, and a writer is the only one to write to a stripe that
 * it was given. So merges can keep the caller's promise although contents change.
 *
 * What a writer writes, and in which order, is a function of its seed: write m of a
 * writer goes to target_of(m) and says m. Thus the newest m that is found in a forked
 * child tells what all of the writer's stripes must contain there: a fork has to catch
 * one moment of the whole heap.
 */
#include "fuzz.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STRIPE		256
#define STRIPES		(PAGE / STRIPE)
#define STRIPE_WORDS	(STRIPE / sizeof(uint64_t))
#define MAX_WRITERS	3
#define MAX_TARGETS	48
#define MAX_WRITES	60000
#define RW		(PROT_READ | PROT_WRITE)

/**
 * struct target - a stripe that a writer owns
 * @page: index of its page
 * @stripe: number in the page
 * @words: where it is
 * @last: number of the newest write to it
 */
struct target {
	unsigned int page;
	unsigned int stripe;
	volatile uint64_t *words;
	unsigned int last;
};

/**
 * struct writer - a thread
 * @number: tells it from the others
 * @seed: of the order of its writes
 * @nr: number of its targets
 * @done: writes completed
 * @target: its targets
 */
struct writer {
	pthread_t thread;
	unsigned int number;
	uint64_t seed;
	unsigned int nr;
	unsigned int done;
	struct target target[MAX_TARGETS];
};

static struct writer writers[MAX_WRITERS];
static unsigned int nr_writers;
static struct arena *arena;
static uint16_t owned[MAX_PAGES];
static uint64_t base;
static atomic_bool stop;

/* The first writes go to each target in turn. */
static unsigned int target_of(const struct writer *w, unsigned int m)
{
	return m <= w->nr ? m - 1 : mix(w->seed + m) % w->nr;
}

static uint64_t value(const struct writer *w, unsigned int m, const struct target *t,
		      unsigned int i)
{
	return base | (uint64_t)w->number << 25 | (uint64_t)m << 9 |
	       (t->stripe * STRIPE_WORDS + i);
}

static void wrong_stripe(const struct writer *w, const struct target *t, unsigned int i,
			 unsigned int m)
{
	fail("writer %u: page %u stripe %u word %u is %016llx, expected write %u of %u: %016llx",
	     w->number, t->page, t->stripe, i, (unsigned long long)t->words[i], m, w->done,
	     (unsigned long long)value(w, m, t, i));
}

static void write_target(struct writer *w, unsigned int m)
{
	struct target *t = &w->target[target_of(w, m)];
	unsigned int i;

	for (i = 0; t->last && i < STRIPE_WORDS; i++)
		if (t->words[i] != value(w, t->last, t, i))
			wrong_stripe(w, t, i, t->last);
	for (i = 0; i < STRIPE_WORDS; i++)
		t->words[i] = value(w, m, t, i);
	t->last = m;
	w->done = m;
}

static void *write_on(void *arg)
{
	struct writer *w = arg;

	while (!stop && w->done < MAX_WRITES)
		write_target(w, w->done + 1);
	return NULL;
}

/* Stripes that the pages of a frame own. */
static uint16_t owned_by_frame(const struct frame *frame)
{
	uint16_t all = 0;
	unsigned int i;

	for (i = 0; frame && i < arena->nr; i++)
		if (arena->page[i].frame == frame)
			all |= owned[i];
	return all;
}

static void give_stripe(unsigned int index)
{
	struct writer *w = &writers[below(nr_writers)];
	struct page *page = &arena->page[index];
	unsigned int stripe = below(STRIPES);

	if (w->nr == MAX_TARGETS || owned_by_frame(page_frame(page)) >> stripe & 1)
		return;
	owned[index] |= 1U << stripe;
	w->target[w->nr++] = (struct target) {
		.page = index,
		.stripe = stripe,
		.words = (void *)(page->addr + stripe * STRIPE),
	};
}

/* What the writers have done is looked at in children, too. */
static void give_stripes(void)
{
	unsigned int i;

	memset(owned, 0, sizeof(owned));
	for (i = 0; i < arena->nr; i++) {
		struct page *page = &arena->page[i];

		if (!page->addr || (page->prot & RW) != RW || page->not_forked || one_in(4))
			continue;
		give_stripe(i);
		while (one_in(2))
			give_stripe(i);
	}
}

static bool prepare(void)
{
	unsigned int i, m;

	if (!pick_arena(&arena))
		return false;
	memset(writers, 0, sizeof(writers));
	nr_writers = 1 + below(MAX_WRITERS);
	base = stamp(0, 0);
	for (i = 0; i < nr_writers; i++) {
		writers[i].number = i;
		writers[i].seed = next_random(&self.random);
	}
	give_stripes();
	for (i = 0; i < nr_writers; i++)
		if (!writers[i].nr)
			return false;
	for (i = 0; i < nr_writers; i++)
		for (m = 1; m <= writers[i].nr; m++)
			write_target(&writers[i], m);
	return true;
}

/* The newest write of which anything can be seen. */
static unsigned int newest(const struct writer *w)
{
	unsigned int i, t, m, max = 0;

	for (t = 0; t < w->nr; t++) {
		for (i = 0; i < STRIPE_WORDS; i++) {
			m = w->target[t].words[i] >> 9 & 0xffff;
			if (w->target[t].words[i] != value(w, m, &w->target[t], i))
				wrong_stripe(w, &w->target[t], i, m);
			if (m > max)
				max = m;
		}
	}
	return max;
}

/* Words [0, n) are of write @m, those behind of the one before to the same target. */
static void check_torn(const struct writer *w, const struct target *t, unsigned int before,
		       unsigned int m)
{
	unsigned int i = 0;

	while (i < STRIPE_WORDS && t->words[i] == value(w, m, t, i))
		i++;
	for (; i < STRIPE_WORDS; i++)
		if (t->words[i] != value(w, before, t, i))
			wrong_stripe(w, t, i, before);
}

/* @m writes were seen to begin, and all but perhaps the last have ended. */
static void check_writer(struct writer *w, unsigned int m)
{
	unsigned int last[MAX_TARGETS] = { 0 }, i, k;

	w->done = m;
	for (k = 1; k < m; k++)
		last[target_of(w, k)] = k;
	for (i = 0; i < w->nr; i++)
		check_torn(w, &w->target[i], last[i], i == target_of(w, m) ? m : last[i]);
}

/* What the writers have left behind becomes part of the model. */
static void adopt(const struct writer *w)
{
	unsigned int i, j;

	for (i = 0; i < w->nr; i++) {
		const struct target *t = &w->target[i];
		uint64_t words[STRIPE_WORDS];

		for (j = 0; j < STRIPE_WORDS; j++)
			words[j] = t->words[j];
		page_fill(&arena->page[t->page], t->stripe * STRIPE_WORDS, STRIPE_WORDS, words);
	}
}

static void end_in_child(void)
{
	unsigned int i;

	for (i = 0; i < nr_writers; i++) {
		check_writer(&writers[i], newest(&writers[i]));
		adopt(&writers[i]);
	}
	check_all();
}

static void end_in_parent(void)
{
	unsigned int i;

	stop = true;
	for (i = 0; i < nr_writers; i++)
		pthread_join(writers[i].thread, NULL);
	for (i = 0; i < nr_writers; i++) {
		unsigned int m = newest(&writers[i]);

		if (m != writers[i].done)
			fail("writer %u: write %u is missing, newest is %u", i,
			     writers[i].done, m);
		check_writer(&writers[i], m);
		adopt(&writers[i]);
	}
	check_all();
}

/* Live slots are those in stripes that the pages of src's frames own. */
static void set_owned(struct meshhelper_pair *pair, unsigned int page, uint16_t stripes)
{
	unsigned int per_stripe = STRIPE / pair->slot_size, i, j;

	for (i = 0; i < STRIPES; i++) {
		for (j = 0; (stripes >> i & 1) && j < per_stripe; j++) {
			unsigned int slot = (page * STRIPES + i) * per_stripe + j;

			pair->live[slot / 64] |= 1ULL << (slot % 64);
		}
	}
}

/* False if the two spans do not suit each other. */
static bool pair_of(struct meshhelper_pair *pair)
{
	struct range src, dst;
	unsigned int i;

	if (!make_pair(pair))
		return false;
	pair->slot_size = STRIPE >> below(pair->pages > 4 ? 2 : 3);
	memset(pair->live, 0, sizeof(pair->live));
	if (!pair_allowed(pair) || !find_span(pair->src, pair->pages, &src) ||
	    src.arena != arena || !find_span(pair->dst, pair->pages, &dst))
		return false;
	for (i = 0; i < pair->pages; i++) {
		uint16_t from = owned_by_frame(arena->page[src.first + i].frame);

		if (from & owned_by_frame(arena->page[dst.first + i].frame))
			return false;
		set_owned(pair, i, from);
	}
	return true;
}

static bool protect_all(const struct meshhelper_pair *pair)
{
	struct range src;
	unsigned int i;

	find_span(pair->src, pair->pages, &src);
	for (i = 0; i < src.nr; i++)
		if (!protect_frame(arena, page_frame(&arena->page[src.first + i])))
			return false;
	return true;
}

static void advise_meanwhile(int advice)
{
	struct range range;

	if (pick_range(&range, MAX_PAGES, PROT_NONE))
		madvise(range_addr(&range), range_len(&range), advice);
}

/* Have the writers come by the fault handler again, as close to the merge as possible. */
static void drop_entries(void)
{
	struct range all = { arena, 0, 1 };

	for (; all.first < arena->nr; all.first += all.nr) {
		all.nr = arena->page[all.first].addr ? run_of(arena, all.first).nr : 1;
		if (range_addr(&all))
			madvise(range_addr(&all), range_len(&all), MADV_DONTNEED);
	}
}

/* Without protection, armed mode would lose writes: that would be this program's fault. */
static void merge_meanwhile(void)
{
	uint32_t mode = MESHHELPER_MERGE_ZAP;
	struct meshhelper_batch batch;
	struct meshhelper_pair pair;

	if (!pair_of(&pair))
		return;
	if (one_in(2)) {
		if (request(MESHHELPER_IOC_ARM, 0, &pair, 1, &batch))
			fail("MESHHELPER_IOC_ARM: %s", strerror(errno));
		if (batch.nr_done && protect_all(&pair))
			mode = MESHHELPER_MERGE_ARMED;
	}
	if (one_in(2))
		drop_entries();
	if (request(MESHHELPER_IOC_MERGE, mode, &pair, 1, &batch))
		fail("MESHHELPER_IOC_MERGE: %s", strerror(errno));
	account_pair(&pair);
	model_result(&pair, mode);
}

/* Only what is of no writer. */
static void remove_meanwhile(void)
{
	unsigned int index = below(arena->nr);
	struct page *page = &arena->page[index];

	if (!page->addr || owned[index] || page->locked || !(page->prot & PROT_WRITE))
		return;
	if (madvise(page->addr, PAGE, MADV_REMOVE))
		fail("MADV_REMOVE: %s", strerror(errno));
	page_clear(page);
}

/* True in a child, which is alone then. */
static bool fork_meanwhile(void)
{
	if (spawn(one_in(3)))
		return false;
	note(" I am the child");
	end_in_child();
	return true;
}

static bool meddle(unsigned int rounds)
{
	while (rounds-- && !control->failed) {
		unsigned int what = below(16);

		if (what < 10)
			merge_meanwhile();
		else if (what < 12)
			remove_meanwhile();
		else if (what < 13)
			advise_meanwhile(MADV_PAGEOUT);
		else if (what < 14 && fork_meanwhile())
			return true;
	}
	return false;
}

bool op_threads(void)
{
	unsigned int i;

	if (!prepare())
		return false;
	stop = false;
	note(" %u writers in arena %zu", nr_writers, arena - self.arena);
	for (i = 0; i < nr_writers; i++)
		if (pthread_create(&writers[i].thread, NULL, write_on, &writers[i]))
			die("pthread_create");
	if (!meddle(20 + below(300)))
		end_in_parent();
	return true;
}
