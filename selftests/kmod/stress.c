// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * 10,000 merges of pages whose live slots are being written to all the time.
 *
 * On a slow kernel a part of the pairs is merged, with writers in all of them.
 *
 * Page 2k has its even slots in use, page 2k + 1 its odd ones, and each pair is
 * merged once. A slot's words all hold the same number. Roles:
 *
 *	writers	each owns the pairs k with k % WRITERS == its number; takes a random
 *		slot of them, checks every word against what it wrote there last, and
 *		writes the next number. A lost or misplaced write is seen at once. Now and
 *		then it rests: where there are no more processors than writers, they would
 *		take those for whole slices of time.
 *	main	merges batch by batch; pairs that were written to in between, or busy,
 *		come again in a later round
 *
 * At the end: all words, all frames, PSS to the page, the number of mappings.
 */
#include "arena.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "kselftest_harness.h"

#define PAIRS	10000
#define SLOT	256
#define SLOTS	(PAGE / SLOT)
#define WORDS	(SLOT / sizeof(uint64_t))
#define WRITERS	2
#define BATCH	128

/* Writes in a row, and microseconds of rest. */
#define ROW	512
#define REST	200

/* Seconds in which all must be merged. */
#define PATIENCE	200

FIXTURE(stress) {
	struct arena a;
};

FIXTURE_VARIANT(stress) {
	uint32_t mode;
};

FIXTURE_VARIANT_ADD(stress, zap) {
	.mode = MESHHELPER_MERGE_ZAP,
};

FIXTURE_VARIANT_ADD(stress, armed) {
	.mode = MESHHELPER_MERGE_ARMED,
};

FIXTURE_SETUP(stress)
{
	if (!mode_supported(variant->mode))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	self->a = arena_open(2 * PAIRS, variant->mode);
}

FIXTURE_TEARDOWN(stress)
{
	if (self->a.base)
		arena_close(&self->a);
}

struct writer {
	struct arena *arena;
	unsigned int number;
	uint64_t writes;
	pthread_t thread;
};

static uint64_t expected[2 * PAIRS][SLOTS];
static atomic_bool stop;
static atomic_ulong wrong;

static volatile uint64_t *slot_of(struct arena *a, size_t page, unsigned int slot)
{
	return (void *)(page_at(a, page) + slot * SLOT);
}

static bool in_use(size_t page, unsigned int slot)
{
	return slot % 2 == page % 2;
}

static void check_slot(struct arena *a, size_t page, unsigned int slot)
{
	volatile uint64_t *words = slot_of(a, page, slot);
	unsigned int i;

	for (i = 0; i < WORDS; i++)
		if (words[i] != expected[page][slot])
			wrong++;
}

static void write_slot(struct arena *a, size_t page, unsigned int slot, uint64_t value)
{
	volatile uint64_t *words = slot_of(a, page, slot);
	unsigned int i;

	for (i = 0; i < WORDS; i++)
		words[i] = value;
	expected[page][slot] = value;
}

static void *write_forever(void *arg)
{
	struct writer *w = arg;
	uint64_t state = 1000 + w->number;

	while (!stop) {
		uint64_t r = next_random(&state);
		size_t pair = (r >> 8) % (PAIRS / WRITERS) * WRITERS + w->number;
		size_t page = 2 * pair + (r & 1);
		unsigned int slot = ((r >> 40) % (SLOTS / 2)) * 2 + page % 2;

		check_slot(w->arena, page, slot);
		write_slot(w->arena, page, slot, r | 1);
		if (++w->writes % ROW == 0)
			usleep(REST);
	}
	return NULL;
}

static void fill(struct arena *a)
{
	unsigned int slot;
	size_t page;

	for (page = 0; page < 2 * PAIRS; page++)
		for (slot = 0; slot < SLOTS; slot++)
			if (in_use(page, slot))
				write_slot(a, page, slot, page * SLOTS + slot + 1);
}

static struct meshhelper_pair pair_of(struct arena *a, size_t k)
{
	struct meshhelper_pair pair = make_pair(page_at(a, 2 * k + 1), page_at(a, 2 * k), SLOT);

	pair.live[0] = 0xaaaa;
	return pair;
}

/*
 * One round over the pairs still to merge; how many remain. A slow kernel takes longer from
 * the first pair armed to the last one merged, while writers are as fast as ever and win each
 * time: it gets smaller batches.
 */
static size_t merge_round(struct arena *a, uint32_t *todo, size_t n)
{
	size_t most = scaled(BATCH), left = 0, at, i, count;
	struct meshhelper_pair pairs[BATCH];

	for (at = 0; at < n; at += count) {
		uint32_t batch[BATCH];

		count = n - at < most ? n - at : most;
		memcpy(batch, todo + at, count * sizeof(*batch));
		for (i = 0; i < count; i++)
			pairs[i] = pair_of(a, batch[i]);
		merge(a, pairs, count);
		for (i = 0; i < count; i++) {
			if (!pairs[i].result)
				continue;
			if (pairs[i].result != -EAGAIN && pairs[i].result != -EBUSY)
				die("unexpected result of a merge");
			todo[left++] = batch[i];
		}
	}
	return left;
}

static uint64_t *read_frames(struct arena *a)
{
	uint64_t *frames = calloc(a->pages, sizeof(*frames));
	int fd = open("/proc/self/pagemap", O_RDONLY);
	size_t i, len = a->pages * sizeof(*frames);

	for (i = 0; i < a->pages; i++)
		touch(page_at(a, i));
	if (fd < 0 || pread(fd, frames, len, (uintptr_t)a->base / PAGE * 8) != (ssize_t)len)
		die("/proc/self/pagemap");
	close(fd);
	for (i = 0; i < a->pages; i++)
		frames[i] &= (1ULL << 55) - 1;
	return frames;
}

static bool late(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - start->tv_sec > (time_t)(PATIENCE * slow_factor());
}

TEST_F_TIMEOUT(stress, merges_under_writers, 300)
{
	static uint32_t todo[PAIRS];
	struct writer writers[WRITERS];
	unsigned int mappings, rounds = 0, i, slot;
	size_t merges = scaled(PAIRS), left = merges, page;
	struct timespec start;
	uint64_t *frames;
	long pss;

	fill(&self->a);
	for (i = 0; i < merges; i++)
		todo[i] = i;
	mappings = count_mappings();
	pss = smaps_kb(&self->a, "Pss:");
	ASSERT_EQ(2 * PAIRS * 4, pss);

	stop = false;
	wrong = 0;
	for (i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer) { .arena = &self->a, .number = i };
		ASSERT_EQ(0, pthread_create(&writers[i].thread, NULL, write_forever, &writers[i]));
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (; left && !late(&start); rounds++)
		left = merge_round(&self->a, todo, left);
	stop = true;
	for (i = 0; i < WRITERS; i++) {
		pthread_join(writers[i].thread, NULL);
		EXPECT_LT(1000, writers[i].writes);
	}
	TH_LOG("%u rounds, %lu writes meanwhile", rounds,
	       (unsigned long)(writers[0].writes + writers[1].writes));

	ASSERT_EQ(0, left);
	for (page = 0; page < 2 * PAIRS; page++)
		for (slot = 0; slot < SLOTS; slot++)
			if (in_use(page, slot))
				check_slot(&self->a, page, slot);
	EXPECT_EQ(0, wrong);

	frames = read_frames(&self->a);
	for (i = 0; i < merges; i++) {
		ASSERT_NE(0, frames[2 * i]);
		ASSERT_EQ(frames[2 * i], frames[2 * i + 1]);
		if (i)
			ASSERT_NE(frames[2 * i], frames[2 * i - 2]);
	}
	free(frames);
	EXPECT_EQ(pss - (long)merges * 4, smaps_kb(&self->a, "Pss:"));
	/* Nothing is left behind where no mapping shows it. */
	EXPECT_EQ(pss - (long)merges * 4, fdinfo_value(&self->a, "mesh-resident"));
	/* Each thread that ended may leave its cached stack and guard page. */
	EXPECT_LE(count_mappings(), mappings + 2 * WRITERS + 1);
	EXPECT_GE(count_mappings() + 1, mappings);
}

TEST_HARNESS_MAIN
