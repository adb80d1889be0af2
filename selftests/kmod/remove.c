// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Giving pages back by madvise(MADV_REMOVE), from and around merged pages, and a
 * random walk through merges, removals and writes against a model of what every
 * byte must be.
 */
#include "arena.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "kselftest_harness.h"

#define SLOT	256
#define SLOTS	(PAGE / SLOT)

FIXTURE(remove) {
	struct arena a;
};

FIXTURE_SETUP(remove)
{
	self->a = arena_open(256, MESHHELPER_MERGE_ZAP);
}

FIXTURE_TEARDOWN(remove)
{
	arena_close(&self->a);
}

static bool page_is(const char *page, char c)
{
	return all_bytes(page, PAGE, c);
}

static int discard(struct arena *a, size_t index, size_t pages)
{
	return madvise(page_at(a, index), pages * PAGE, MADV_REMOVE);
}

TEST_F(remove, lone_pages)
{
	long long removed = counter("pages_removed_total");

	memset(self->a.base, 'x', 256 * PAGE);
	EXPECT_EQ(1024, smaps_kb(&self->a, "Pss:"));
	ASSERT_EQ(0, discard(&self->a, 10, 100));
	EXPECT_EQ(1024 - 400, smaps_kb(&self->a, "Pss:"));
	EXPECT_EQ(removed + 100, counter("pages_removed_total"));
	EXPECT_TRUE(page_is(page_at(&self->a, 9), 'x'));
	EXPECT_TRUE(page_is(page_at(&self->a, 10), 0));
	EXPECT_TRUE(page_is(page_at(&self->a, 109), 0));
	EXPECT_TRUE(page_is(page_at(&self->a, 110), 'x'));
}

/* The page stays with the alias when the address goes whose page it was. */
TEST_F(remove, target_of_alias)
{
	char *src = page_at(&self->a, 3), *dst = page_at(&self->a, 7);
	long long meshed = counter("pages_meshed");

	memset(src, 's', PAGE);
	memset(dst, 'd', PAGE);
	ASSERT_EQ(0, merge_slot(&self->a, 3, 7, SLOT, 0));
	EXPECT_EQ(meshed + 1, counter("pages_meshed"));
	ASSERT_EQ(0, discard(&self->a, 7, 1));
	EXPECT_EQ(meshed, counter("pages_meshed"));
	EXPECT_EQ('s', src[0]);
	EXPECT_EQ('d', src[SLOT]);
	EXPECT_EQ(4, smaps_kb(&self->a, "Pss:"));

	/* A new page of its own, independent of the other. */
	EXPECT_TRUE(page_is(dst, 0));
	dst[0] = 'n';
	EXPECT_EQ('s', src[0]);
	EXPECT_FALSE(same_frame(src, dst));
	EXPECT_EQ(8, smaps_kb(&self->a, "Pss:"));

	/* They can meet again, in either direction. */
	memset(dst, 'n', SLOT);
	memset(src + SLOT, 'S', SLOT);
	ASSERT_EQ(0, merge_slot(&self->a, 3, 7, SLOT, 1));
	EXPECT_EQ('S', dst[SLOT]);
	EXPECT_EQ('n', src[0]);
	ASSERT_EQ(0, discard(&self->a, 3, 1));
	ASSERT_EQ(0, discard(&self->a, 7, 1));
	EXPECT_EQ(0, smaps_kb(&self->a, "Pss:"));
	EXPECT_EQ(meshed, counter("pages_meshed"));
}

TEST_F(remove, alias_of_target)
{
	char *src = page_at(&self->a, 3), *dst = page_at(&self->a, 7);

	memset(src, 's', PAGE);
	memset(dst, 'd', PAGE);
	ASSERT_EQ(0, merge_slot(&self->a, 3, 7, SLOT, 0));
	ASSERT_EQ(0, discard(&self->a, 3, 1));
	EXPECT_TRUE(page_is(src, 0));
	EXPECT_EQ('s', dst[0]);
	EXPECT_EQ('d', dst[SLOT]);
}

/* One call over groups that lie inside, outside, and half inside the range. */
TEST_F(remove, range_across_groups)
{
	unsigned int i;

	for (i = 0; i < 12; i++)
		memset(page_at(&self->a, i), 'a' + i, PAGE);
	ASSERT_EQ(0, merge_slot(&self->a, 4, 5, SLOT, 0));	/* inside */
	ASSERT_EQ(0, merge_slot(&self->a, 0, 6, SLOT, 0));	/* target inside */
	ASSERT_EQ(0, merge_slot(&self->a, 7, 1, SLOT, 0));	/* alias inside */
	ASSERT_EQ(0, merge_slot(&self->a, 2, 10, SLOT, 0));	/* outside */
	ASSERT_EQ(0, discard(&self->a, 4, 5));
	EXPECT_EQ('a', *page_at(&self->a, 0));
	EXPECT_EQ('g', page_at(&self->a, 0)[SLOT]);
	EXPECT_EQ('h', *page_at(&self->a, 1));
	EXPECT_EQ('b', page_at(&self->a, 1)[SLOT]);
	EXPECT_EQ('c', *page_at(&self->a, 10));
	for (i = 4; i < 9; i++)
		EXPECT_TRUE(page_is(page_at(&self->a, i), 0));
	EXPECT_TRUE(page_is(page_at(&self->a, 9), 'j'));
	EXPECT_TRUE(same_frame(page_at(&self->a, 2), page_at(&self->a, 10)));
}

/**
 * struct model - what must be in an arena
 * @owner: by page: pages with the same owner share a frame
 * @byte: what each slot of each frame holds; 0: free
 * @present: does the frame exist?
 */
struct model {
	unsigned int owner[64];
	char byte[64][SLOTS];
	bool present[64];
};

static bool model_matches(struct arena *a, struct model *m)
{
	unsigned int page, slot;

	for (page = 0; page < 64; page++)
		for (slot = 0; slot < SLOTS; slot++) {
			char want = m->byte[m->owner[page]][slot];
			char *at = page_at(a, page) + slot * SLOT;

			if (want && (at[0] != want || at[SLOT - 1] != want))
				return false;
		}
	return true;
}

static void model_write(struct arena *a, struct model *m, unsigned int page,
			unsigned int slot, char c)
{
	memset(page_at(a, page) + slot * SLOT, c, SLOT);
	m->byte[m->owner[page]][slot] = c;
	m->present[m->owner[page]] = true;
}

/* Merge if the frames' slots do not collide; free some slots first to help. */
static int model_merge(struct arena *a, struct model *m, unsigned int src,
		       unsigned int dst)
{
	unsigned int from = m->owner[src], to = m->owner[dst], slot, i;
	struct meshhelper_pair pair = make_pair(page_at(a, src), page_at(a, dst), SLOT);
	int err;

	if (from == to || !m->present[from] || !m->present[to])
		return 0;
	for (slot = 0; slot < SLOTS; slot++)
		if (m->byte[from][slot] && m->byte[to][slot])
			m->byte[slot % 2 ? from : to][slot] = 0;
	for (slot = 0; slot < SLOTS; slot++)
		if (m->byte[from][slot])
			set_live(&pair, slot);
	err = merge_one(a, &pair);
	if (err)
		return err;
	for (slot = 0; slot < SLOTS; slot++)
		m->byte[to][slot] |= m->byte[from][slot];
	for (i = 0; i < 64; i++)
		if (m->owner[i] == from)
			m->owner[i] = to;
	m->present[from] = false;
	memset(m->byte[from], 0, SLOTS);
	return 0;
}

/* A removed page has zeroes and an owner of its own: any that nobody uses. */
static void model_remove(struct model *m, unsigned int page)
{
	bool used[64] = { false };
	unsigned int i;

	for (i = 0; i < 64; i++)
		if (i != page)
			used[m->owner[i]] = true;
	if (!used[m->owner[page]]) {
		memset(m->byte[m->owner[page]], 0, SLOTS);
		m->present[m->owner[page]] = false;
		return;
	}
	for (i = 0; used[i]; i++)
		;
	m->owner[page] = i;
	m->present[i] = false;
	memset(m->byte[i], 0, SLOTS);
}

static bool walk(struct arena *a, uint64_t seed, unsigned int steps)
{
	uint64_t state = seed;
	struct model m = { 0 };
	unsigned int i, page, step;

	for (i = 0; i < 64; i++)
		m.owner[i] = i;
	for (step = 0; step < steps; step++) {
		uint64_t r = next_random(&state);

		page = (r >> 8) % 64;
		switch (r % 8) {
		case 0:
			for (i = page; i < 64 && i <= page + (r >> 40) % 5; i++)
				model_remove(&m, i);
			if (discard(a, page, i - page))
				return false;
			for (; i-- > page; )
				if (page_at(a, i)[(r >> 50) % PAGE])
					return false;
			/* Looking made the pages exist. */
			for (i = page; i < 64 && i <= page + (r >> 40) % 5; i++)
				m.present[m.owner[i]] = true;
			break;
		case 1:
		case 2:
		case 3:
			i = model_merge(a, &m, page, (r >> 16) % 64);
			if (i && i != (unsigned int)-EMLINK)
				return false;
			break;
		default:
			model_write(a, &m, page, (r >> 24) % SLOTS, 1 + (r >> 32) % 100);
		}
		if (step % 64 == 0 && !model_matches(a, &m))
			return false;
	}
	return model_matches(a, &m);
}

TEST_F(remove, random_walk)
{
	long long meshed = counter("pages_meshed"), merged = counter("pages_merged_total");
	uint64_t seed;

	for (seed = 1; seed <= 10; seed++) {
		ASSERT_TRUE(walk(&self->a, seed, 2000)) TH_LOG("seed %lu", seed);
		ASSERT_EQ(0, discard(&self->a, 0, 256));
		ASSERT_EQ(0, smaps_kb(&self->a, "Pss:"));
		ASSERT_EQ(meshed, counter("pages_meshed"));
	}
	EXPECT_LT(merged + 1000, counter("pages_merged_total"));
}

static volatile bool stop;

static void *reader(void *arg)
{
	struct arena *a = arg;
	uint64_t state = (uintptr_t)&state;

	while (!stop) {
		uint64_t r = next_random(&state);

		/* Half of them write: to pages being removed, which may lose it. */
		if (r & 1)
			page_at(a, (r >> 8) % 64)[r >> 52] = 1;
		else
			touch(page_at(a, (r >> 8) % 64) + (r >> 52));
	}
	return NULL;
}

/* Touching pages while they are merged and removed: the kernel stays sane. */
TEST_F_TIMEOUT(remove, racing_with_faults, 120)
{
	pthread_t thread[3];
	uint64_t state = 42;
	unsigned int i;

	stop = false;
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, reader, &self->a));
	for (i = 0; i < scaled(4000); i++) {
		uint64_t r = next_random(&state);
		struct meshhelper_pair pair = make_pair(page_at(&self->a, (r >> 8) % 64),
							page_at(&self->a, (r >> 16) % 64),
							SLOT);

		merge(&self->a, &pair, 1);
		if (i % 4 == 0)
			ASSERT_EQ(0, discard(&self->a, (r >> 24) % 56, 1 + (r >> 32) % 8));
	}
	stop = true;
	for (i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	ASSERT_EQ(0, discard(&self->a, 0, 64));
	EXPECT_EQ(0, smaps_kb(&self->a, "Pss:"));
}

/* A write that has been asked for, and what became of it. */
struct urgent_write {
	struct arena *a;
	uint64_t random;
	pthread_barrier_t barrier;
	long long longest_ns;
};

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Preempts what removes the pages, somewhere, and writes to the last of them. */
static void *write_urgently(void *arg)
{
	struct urgent_write *w = arg;
	struct timespec delay = { 0 };
	long long start, took;
	unsigned int i;

	for (i = 0; i < scaled(200); i++) {
		pthread_barrier_wait(&w->barrier);
		delay.tv_nsec = next_random(&w->random) % (8000000 * slow_factor());
		nanosleep(&delay, NULL);
		start = now_ns();
		page_at(w->a, 255)[0] = 'u';
		took = now_ns() - start;
		if (took > w->longest_ns)
			w->longest_ns = took;
	}
	return NULL;
}

/*
 * A real-time thread writes to a page that another thread on the same CPU is just removing: it
 * waits for that, rather than keep it from running by trying again and again.
 */
TEST_F_TIMEOUT(remove, under_real_time_writer, 120)
{
	struct urgent_write w = { .a = &self->a, .random = 4711 };
	struct sched_param urgent = { .sched_priority = 10 };
	pthread_t thread;
	unsigned int i;
	cpu_set_t cpus;
	size_t page;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpus), &cpus));
	ASSERT_EQ(0, pthread_barrier_init(&w.barrier, NULL, 2));
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_urgently, &w));
	ASSERT_EQ(0, pthread_setschedparam(thread, SCHED_FIFO, &urgent));
	for (i = 0; i < scaled(200); i++) {
		/* Mapped, but not for writing. */
		for (page = 0; page < 256; page++)
			touch(page_at(&self->a, page));
		pthread_barrier_wait(&w.barrier);
		ASSERT_EQ(0, discard(&self->a, 0, 256));
	}
	pthread_join(thread, NULL);
	TH_LOG("%lld us at most", w.longest_ns / 1000);
	EXPECT_GT(500000000LL * slow_factor(), w.longest_ns);
}

TEST_HARNESS_MAIN
