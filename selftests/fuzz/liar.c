// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * An arena whose owner breaks every promise: several threads merge, write and remove in
 * it at once, slots in use collide, and nothing is protected. One of them may ask through
 * a ring, and then the others rewrite all that it asks while it is being done.
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
#define COMMANDS	8

/*
 * The scratch arena is at the start of a block of its own that is aligned to its size, so
 * that an address that is put together from bytes of two others in it means nothing else.
 */
#define BLOCK		(64 * PAGE)

static char *reserved;
static char *scratch;
static unsigned int pages;
static atomic_bool stop;

/* What commands of @ring are about, if it is open; every INFO overwrites the batch. */
static struct ring ring;
static struct {
	_Alignas(PAGE) struct meshhelper_pair pairs[32];
	union {
		struct meshhelper_batch batch;
		struct meshhelper_info info;
	} arg;
} shared;

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

static void scratch_pair(volatile struct meshhelper_pair *pair)
{
	unsigned int i;

	pair->pages = one_in(2) ? 1 : 1 + below(MESHHELPER_MAX_SPAN_PAGES);
	pair->src = (uintptr_t)scratch + below(pages) * PAGE;
	pair->dst = (uintptr_t)scratch + below(pages) * PAGE;
	pair->slot_size = 16 * pair->pages;
	pair->flags = one_in(16);
	for (i = 0; i < MESHHELPER_LIVE_WORDS; i++)
		pair->live[i] = random64() & random64();
}

static void random_pair(struct meshhelper_pair *pair)
{
	scratch_pair(pair);
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

/* Any four of the pairs in a row begin within a byte of each other. */
static void rewrite_batch(volatile struct meshhelper_batch *batch)
{
	batch->pairs = (uintptr_t)&shared.pairs[below(4)];
	batch->nr_pairs = one_in(16) ? 0 : 1 + below(28);
	batch->flags = 1 + below(8) / 3;
	batch->reserved = one_in(8);
	batch->reserved2[0] = 0;
	batch->reserved2[1] = 0;
}

static void rewrite_command(struct io_uring_sqe *sqe)
{
	static const uint32_t cmds[] = {
		MESHHELPER_IOC_MERGE, MESHHELPER_IOC_MERGE, MESHHELPER_IOC_MERGE,
		MESHHELPER_IOC_ARM, MESHHELPER_IOC_INFO, 0,
	};
	volatile struct meshhelper_uring_cmd *payload = sqe_payload(sqe);

	*(volatile uint32_t *)&sqe->cmd_op = cmds[below(ARRAY_SIZE(cmds))];
	payload->arg = one_in(8) ? 0xffff888000000000 : (uintptr_t)&shared.arg;
	payload->reserved = one_in(8);
}

static void rewrite(void)
{
	unsigned int n = 1 + below(200);

	while (n--) {
		scratch_pair(&shared.pairs[below(ARRAY_SIZE(shared.pairs))]);
		rewrite_batch(&shared.arg.batch);
		rewrite_command((void *)(ring.sqes + below(COMMANDS) * ring.sqe_size));
	}
}

/* Nobody knows what they do, but each of them ends. */
static void command_some(int device)
{
	unsigned int i, seen = 0;

	for (i = 0; i < COMMANDS; i++)
		ring_command(&ring, device, MESHHELPER_IOC_MERGE, &shared.arg, i);
	ring_submit(&ring);
	for (i = 0; i < COMMANDS; i++)
		seen |= 1U << ring_wait(&ring).user_data;
	if (seen != (1U << COMMANDS) - 1)
		fail("liar: completions %x of %u commands", seen, COMMANDS);
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
	case 8:
	case 9:
		if (ring.fd >= 0) {
			rewrite();
			break;
		}
		/* fall through */
	default:
		merge_some(device);
	}
}

/**
 * struct liar - a thread
 * @seed: of its random stream
 * @submits: has the ring, if there is one
 */
struct liar {
	pthread_t thread;
	uint64_t seed;
	bool submits;
};

static void *lie_on(void *arg)
{
	struct liar *liar = arg;
	uint64_t state = liar->seed;
	int device = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (device < 0)
		die("open " DEVICE);
	random_stream = &state;
	while (!stop) {
		if (liar->submits && ring.fd >= 0 && one_in(3))
			command_some(device);
		else
			lie(device);
	}
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

static void scratch_close(void)
{
	munmap(reserved, 2 * BLOCK);
	if (ring.fd >= 0)
		ring_close(&ring);
	ring.fd = -1;
}

/* What was in the scratch arena is not the child's: it leaves it with its parent. */
static bool child_of_liar(void)
{
	unsigned int i;

	note(" I am the child");
	for (i = 0; i < pages; i++)
		(void)*(volatile char *)(scratch + i * PAGE);
	scratch_close();
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

static void scratch_open(void)
{
	/* The fewer there are, the more often two get in each other's way. */
	pages = one_in(3) ? 2 + below(MAX_SCRATCH - 1) : 2 + below(6);
	reserved = mmap(NULL, 2 * BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	scratch = (char *)(((uintptr_t)reserved + BLOCK - 1) & -BLOCK);
	if (reserved == MAP_FAILED ||
	    mmap(scratch, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 self.device, 0) == MAP_FAILED)
		die("mmap of the device");
	/* What is left of the last time may be another arena's addresses now. */
	memset(&shared, 0, sizeof(shared));
	ring.fd = -1;
	if (one_in(2))
		ring = ring_open(COMMANDS, random_ring());
}

static void start_liar(struct liar *liar, bool submits)
{
	*liar = (struct liar) { .seed = next_random(&self.random), .submits = submits };
	if (pthread_create(&liar->thread, NULL, lie_on, liar))
		die("pthread_create");
}

bool op_liar(void)
{
	static struct liar liars[LIARS];
	unsigned int i;

	scratch_open();
	stop = false;
	for (i = 0; i < LIARS; i++)
		start_liar(&liars[i], !i);
	if (stand_by())
		return true;
	stop = true;
	for (i = 0; i < LIARS; i++)
		pthread_join(liars[i].thread, NULL);
	look_everywhere();
	scratch_close();
	check_all();
	return true;
}
