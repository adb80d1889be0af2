// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * System calls that fill small buffers while the pages under them are merged: never
 * EFAULT, never a short count, never a byte lost.
 *
 * One I/O thread for each call goes round the slots of the pages that main merges.
 * When a round's pairs are all merged, the threads rest, the pages are taken apart
 * by removing the sources, and it starts again.
 */
#include "arena.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "kselftest_harness.h"

#define PAIRS	128
#define SLOT	512
#define ROUNDS	scaled(8)

/* Slot 0 is the mesher's own, the I/O threads have one each. */
enum { SLOT_READ = 1, SLOT_RECV, SLOT_PREAD, SLOT_READV, SLOT_RANDOM, SLOT_END };

FIXTURE(io) {
	struct arena a;
	int file;
};

FIXTURE_VARIANT(io) {
	uint32_t mode;
};

FIXTURE_VARIANT_ADD(io, zap) {
	.mode = MESHHELPER_MERGE_ZAP,
};

FIXTURE_VARIANT_ADD(io, armed) {
	.mode = MESHHELPER_MERGE_ARMED,
};

FIXTURE_SETUP(io)
{
	char name[] = "/tmp/mesh-io-XXXXXX", block[SLOT];
	int i;

	if (!mode_supported(variant->mode))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	self->a = arena_open(2 * PAIRS, variant->mode);
	self->file = mkstemp(name);
	ASSERT_LE(0, self->file);
	unlink(name);
	for (i = 0; i < 256; i++) {
		memset(block, i, sizeof(block));
		ASSERT_EQ(SLOT, write(self->file, block, SLOT));
	}
}

FIXTURE_TEARDOWN(io)
{
	if (self->a.base)
		arena_close(&self->a);
}

struct worker {
	struct arena *arena;
	unsigned int slot;
	int file;
	int fds[2];
	unsigned long calls;
	pthread_t thread;
};

static atomic_bool stop;
static atomic_ulong failures;
/* Main must get its turn, although the threads hardly ever let go. */
static pthread_rwlock_t round_lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static void expect_filled(const char *buffer, ssize_t got, char c)
{
	unsigned int i;

	if (got != SLOT) {
		failures++;
		return;
	}
	for (i = 0; i < SLOT; i++)
		if (buffer[i] != c) {
			failures++;
			return;
		}
}

static ssize_t send_block(struct worker *w, char c)
{
	char block[SLOT];

	memset(block, c, SLOT);
	return write(w->fds[1], block, SLOT);
}

/* One call into @buffer; readv() fills two halves in different pages. */
static void one_call(struct worker *w, char *buffer, char *other, uint64_t r)
{
	struct iovec iov[2] = { { buffer, SLOT / 2 }, { other, SLOT / 2 } };
	char c = r >> 32;

	switch (w->slot) {
	case SLOT_READ:
		send_block(w, c);
		expect_filled(buffer, read(w->fds[0], buffer, SLOT), c);
		break;
	case SLOT_RECV:
		send_block(w, c);
		expect_filled(buffer, recv(w->fds[0], buffer, SLOT, 0), c);
		break;
	case SLOT_PREAD:
		expect_filled(buffer, pread(w->file, buffer, SLOT, (r >> 32 & 255) * SLOT), c);
		break;
	case SLOT_READV:
		send_block(w, c);
		if (readv(w->fds[0], iov, 2) != SLOT || buffer[0] != c ||
		    buffer[SLOT / 2 - 1] != c || other[0] != c || other[SLOT / 2 - 1] != c)
			failures++;
		break;
	case SLOT_RANDOM:
		memset(buffer, 0, SLOT);
		if (getrandom(buffer, SLOT, 0) != SLOT ||
		    !memcmp(buffer, buffer + SLOT / 2, SLOT / 2))
			failures++;
		break;
	}
	w->calls++;
}

static void *call_forever(void *arg)
{
	struct worker *w = arg;
	uint64_t state = w->slot;

	while (!stop) {
		uint64_t r = next_random(&state);
		size_t page = (r >> 8) % PAIRS, other = (r >> 20) % PAIRS;

		if (page == other)
			continue;
		pthread_rwlock_rdlock(&round_lock);
		one_call(w, page_at(w->arena, 2 * page + 1) + w->slot * SLOT,
			 page_at(w->arena, 2 * other + 1) + w->slot * SLOT, r);
		pthread_rwlock_unlock(&round_lock);
	}
	return NULL;
}

static void start(struct worker *w, struct arena *a, unsigned int slot, int file)
{
	*w = (struct worker) { .arena = a, .slot = slot, .file = file };
	if (slot == SLOT_RECV ? socketpair(AF_UNIX, SOCK_STREAM, 0, w->fds) : pipe(w->fds))
		die("pipe");
	if (pthread_create(&w->thread, NULL, call_forever, w))
		die("pthread_create");
}

static void take_apart(struct arena *a)
{
	unsigned int i;

	pthread_rwlock_wrlock(&round_lock);
	for (i = 0; i < PAIRS; i++) {
		if (madvise(page_at(a, 2 * i + 1), PAGE, MADV_REMOVE))
			die("MADV_REMOVE");
		memset(page_at(a, 2 * i + 1), 'n', PAGE);
	}
	pthread_rwlock_unlock(&round_lock);
}

TEST_F_TIMEOUT(io, calls_during_merges, 300)
{
	struct worker workers[SLOT_END - SLOT_READ];
	unsigned int round, i, merged = 0, refused = 0;
	unsigned long calls = 0;

	memset(self->a.base, 'i', 2 * PAIRS * PAGE);
	stop = false;
	failures = 0;
	for (i = SLOT_READ; i < SLOT_END; i++)
		start(&workers[i - SLOT_READ], &self->a, i, self->file);
	for (round = 0; round < ROUNDS; round++) {
		merged += merge_in_turn(&self->a, PAIRS, SLOT, (1 << SLOT_END) - 2, &refused);
		take_apart(&self->a);
	}
	stop = true;
	for (i = 0; i < SLOT_END - SLOT_READ; i++) {
		pthread_join(workers[i].thread, NULL);
		EXPECT_LT(100, workers[i].calls);
		calls += workers[i].calls;
	}
	TH_LOG("%u merged, %u refused, %lu calls meanwhile", merged, refused, calls);
	EXPECT_EQ(0, failures);
	EXPECT_LE(ROUNDS * PAIRS * 9 / 10, merged);
}

TEST_HARNESS_MAIN
