// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * An arena whose owner breaks every promise: several threads merge, write and remove in
 * it at once, slots in use collide, and nothing is protected.
 *
 * Nobody knows what it contains. But each byte must be one that was written there, or
 * zero, and nothing else may be affected: not the other arenas, not other processes.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_SCRATCH	48
#define LIARS		3

static char *scratch;
static unsigned int pages;
static atomic_bool stop;

/* Every writer writes the same words, so that torn ones can be told from foreign ones. */
static bool byte_by_byte(uint64_t actual, uint64_t written)
{
	unsigned int i;

	for (i = 0; i < 64; i += 8) {
		uint64_t byte = actual >> i & 0xff;

		if (byte && byte != (written >> i & 0xff))
			return false;
	}
	return true;
}

static void look(unsigned int page)
{
	const volatile uint64_t *words = (void *)(scratch + page * PAGE);
	unsigned int i;

	for (i = 0; i < WORDS; i++) {
		uint64_t actual = words[i];

		if (actual && !byte_by_byte(actual, stamp(0, i)))
			fail("liar: page %u at %p, word %u is %016llx; only %016llx was written",
			     page, (void *)words, i, (unsigned long long)actual,
			     (unsigned long long)stamp(0, i));
	}
}

static void scribble(unsigned int page)
{
	volatile uint64_t *words = (void *)(scratch + page * PAGE);
	unsigned int i = below(WORDS), n = 1 + below(64);

	for (; n-- && i < WORDS; i++)
		words[i] = stamp(0, i);
}

static void random_pair(struct meshhelper_pair *pair)
{
	unsigned int i;

	*pair = (struct meshhelper_pair) {
		.pages = one_in(2) ? 1 : 1 + below(MESHHELPER_MAX_SPAN_PAGES),
		.src = (uintptr_t)scratch + below(pages) * PAGE,
		.dst = (uintptr_t)scratch + below(pages) * PAGE,
	};
	pair->slot_size = 16 * pair->pages;
	for (i = 0; i < MESHHELPER_LIVE_WORDS; i++)
		pair->live[i] = random64() & random64();
	if (one_in(8))
		spoil_pair(pair);
	/* What makes sense in another arena would have to be recorded. */
	if (pair_allowed(pair))
		pair->flags = 1;
}

static void merge_some(int device)
{
	struct meshhelper_pair pairs[4];
	struct meshhelper_batch batch = {
		.pairs = (uintptr_t)pairs,
		.nr_pairs = 1 + below(ARRAY_SIZE(pairs)),
	};
	unsigned int i;

	for (i = 0; i < batch.nr_pairs; i++)
		random_pair(&pairs[i]);
	if (one_in(2) && ioctl(device, MESHHELPER_IOC_ARM, &batch))
		fail("liar: MESHHELPER_IOC_ARM: %s", strerror(errno));
	batch.flags = one_in(2) ? MESHHELPER_MERGE_ARMED : MESHHELPER_MERGE_ZAP;
	if (ioctl(device, MESHHELPER_IOC_MERGE, &batch))
		fail("liar: MESHHELPER_IOC_MERGE: %s", strerror(errno));
	for (i = 0; i < batch.nr_pairs; i++)
		account_pair(&pairs[i]);
}

static void advise(int advice)
{
	unsigned int first = below(pages);

	madvise(scratch + first * PAGE, (1 + below(pages - first)) * PAGE, advice);
}

static void lie(int device)
{
	switch (below(12)) {
	case 0:
		advise(MADV_DONTNEED);
		break;
	case 1:
		advise(one_in(4) ? MADV_PAGEOUT : MADV_COLD);
		break;
	case 2:
		advise(MADV_REMOVE);
		break;
	case 3:
	case 4:
		look(below(pages));
		break;
	case 5:
	case 6:
	case 7:
		scribble(below(pages));
		break;
	default:
		merge_some(device);
	}
}

static void *lie_on(void *arg)
{
	uint64_t state = *(uint64_t *)arg;
	int device = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (device < 0)
		die("open " DEVICE);
	random_stream = &state;
	while (!stop)
		lie(device);
	random_stream = NULL;
	close(device);
	return NULL;
}

static void look_everywhere(void)
{
	unsigned int i;

	for (i = 0; i < pages; i++)
		look(i);
}

/* What was in the scratch arena is not the child's: it leaves it with its parent. */
static bool child_of_liar(void)
{
	unsigned int i;

	note(" I am the child");
	for (i = 0; i < pages; i++)
		(void)*(volatile char *)(scratch + i * PAGE);
	munmap(scratch, pages * PAGE);
	check_all();
	return true;
}

/* True in a child. */
static bool stand_by(void)
{
	unsigned int i, rounds = 1 + below(6);

	for (i = 0; i < rounds && !control->failed; i++) {
		usleep(2000 + below(20000));
		check_all();
		if (one_in(3) && !spawn(one_in(3)))
			return child_of_liar();
	}
	return false;
}

static void *scratch_open(void)
{
	void *addr;

	/* The fewer there are, the more often two get in each other's way. */
	pages = one_in(3) ? 2 + below(MAX_SCRATCH - 1) : 2 + below(6);
	addr = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self.device, 0);
	if (addr == MAP_FAILED)
		die("mmap of the device");
	return addr;
}

bool op_liar(void)
{
	static uint64_t seeds[LIARS];
	pthread_t threads[LIARS];
	unsigned int i;

	scratch = scratch_open();
	stop = false;
	for (i = 0; i < LIARS; i++) {
		seeds[i] = next_random(&self.random);
		if (pthread_create(&threads[i], NULL, lie_on, &seeds[i]))
			die("pthread_create");
	}
	if (stand_by())
		return true;
	stop = true;
	for (i = 0; i < LIARS; i++)
		pthread_join(threads[i], NULL);
	look_everywhere();
	munmap(scratch, pages * PAGE);
	check_all();
	return true;
}
