// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * The requests as io_uring commands: on every kind of ring the same results as by
 * ioctl, one completion for each, and nothing else when the SQE, the batch or the
 * pairs change meanwhile, the ring is somebody else's, or its owner dies.
 *
 * A gate holds a command in the middle of its work: it is memory without pages, whose
 * faults userfaultfd reports and then leaves waiting. A command that reads its pairs
 * from there has read everything before, and reads the rest when the gate opens.
 */
#include "arena.h"
#include "ring.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define SLOT		64
#define SLOTS		(PAGE / SLOT)
#define BATCH		512
#define PER_PAGE	(PAGE / sizeof(struct meshhelper_pair))

_Static_assert(sizeof(struct meshhelper_uring_cmd) == 16, "uapi");

/*
 * What the pages have: in each slot a number of its own, the same in every word.
 */
static uint64_t slot_value(size_t page, unsigned int slot)
{
	return (uint64_t)(page + 1) << 32 | slot;
}

static volatile uint64_t *slot_words(struct arena *a, size_t page, unsigned int slot)
{
	return (void *)(page_at(a, page) + slot * SLOT);
}

static void fill_page(struct arena *a, size_t page)
{
	unsigned int slot, i;

	for (slot = 0; slot < SLOTS; slot++)
		for (i = 0; i < SLOT / 8; i++)
			slot_words(a, page, slot)[i] = slot_value(page, slot);
}

static void fill(struct arena *a)
{
	size_t page;

	for (page = 0; page < a->pages; page++)
		fill_page(a, page);
}

/* The page whose contents a slot has; -1 if it is torn or another slot's. */
static long slot_origin(struct arena *a, size_t page, unsigned int slot)
{
	volatile uint64_t *words = slot_words(a, page, slot);
	unsigned int i;

	if ((uint32_t)words[0] != slot || words[0] >> 32 == 0 || words[0] >> 32 > a->pages)
		return -1;
	for (i = 1; i < SLOT / 8; i++)
		if (words[i] != words[0])
			return -1;
	return (words[0] >> 32) - 1;
}

static bool page_intact(struct arena *a, size_t page)
{
	unsigned int slot;

	for (slot = 0; slot < SLOTS; slot++)
		if (slot_origin(a, page, slot) != (long)page)
			return false;
	return true;
}

/* The odd slots of src have moved to dst, which has kept the even ones. */
static bool page_merged(struct arena *a, size_t src, size_t dst)
{
	unsigned int slot;

	for (slot = 0; slot < SLOTS; slot++)
		if (slot_origin(a, src, slot) != (long)(slot % 2 ? src : dst) ||
		    slot_origin(a, dst, slot) != (long)(slot % 2 ? src : dst))
			return false;
	return same_frame(page_at(a, src), page_at(a, dst));
}

static struct meshhelper_pair odd_pair(struct arena *a, size_t src, size_t dst)
{
	struct meshhelper_pair pair = make_pair(page_at(a, src), page_at(a, dst), SLOT);

	pair.live[0] = 0xaaaaaaaaaaaaaaaa;
	pair.result = 1;
	return pair;
}

/* Pages 2k + 1 into pages 2k. */
static void make_pairs(struct arena *a, struct meshhelper_pair *pairs, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		pairs[i] = odd_pair(a, 2 * i + 1, 2 * i);
}

static struct meshhelper_batch make_batch(struct meshhelper_pair *pairs, unsigned int n,
					  uint32_t flags)
{
	return (struct meshhelper_batch) {
		.pairs = (uintptr_t)pairs,
		.nr_pairs = n,
		.flags = flags,
	};
}

/* What is wrong with a batch of make_pairs() that was merged; busy pages may be left. */
static unsigned int count_wrong(struct arena *a, const struct meshhelper_pair *pairs,
				unsigned int n, uint32_t nr_done)
{
	unsigned int i, done = 0, wrong = 0;

	for (i = 0; i < n; i++) {
		if (pairs[i].result == -EBUSY)
			wrong += !page_intact(a, 2 * i) || !page_intact(a, 2 * i + 1);
		else
			wrong += pairs[i].result || !page_merged(a, 2 * i + 1, 2 * i);
		done += !pairs[i].result;
	}
	return wrong + (done != nr_done);
}

struct gate {
	int uffd;
	char *base;
	char *content;
	size_t pages;
};

static struct gate gate_make(size_t pages)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct gate g = { .pages = pages };
	int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;

	g.base = mmap(NULL, pages * PAGE, prot, flags, -1, 0);
	g.content = mmap(NULL, pages * PAGE, prot, flags, -1, 0);
	g.uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (g.base == MAP_FAILED || g.content == MAP_FAILED || g.uffd < 0)
		die("userfaultfd");
	reg.range.start = (uintptr_t)g.base;
	reg.range.len = pages * PAGE;
	if (ioctl(g.uffd, UFFDIO_API, &api) || ioctl(g.uffd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER");
	return g;
}

/* Until somebody stands before the gate. */
static void gate_wait(struct gate *g)
{
	struct pollfd pfd = { .fd = g->uffd, .events = POLLIN };
	struct uffd_msg msg;

	if (poll(&pfd, 1, 20000) != 1 || read(g->uffd, &msg, sizeof(msg)) != sizeof(msg))
		die("nobody is at the gate");
}

static void gate_open(struct gate *g, size_t page)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)g->base + page * PAGE,
		.src = (uintptr_t)g->content + page * PAGE,
		.len = PAGE,
	};

	if (ioctl(g->uffd, UFFDIO_COPY, &copy))
		die("UFFDIO_COPY");
}

static void gate_close(struct gate *g)
{
	close(g->uffd);
	munmap(g->base, g->pages * PAGE);
	munmap(g->content, g->pages * PAGE);
}

/* Users of the module: mappings, descriptors, commands in flight. */
static long long module_users(void)
{
	char value[32] = "";
	int fd = open("/sys/module/meshhelper/refcnt", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, value, sizeof(value) - 1) <= 0)
		die("/sys/module/meshhelper/refcnt");
	close(fd);
	return atoll(value);
}

/* Rings are taken down in the background. */
static bool module_users_become(long long n)
{
	int tries = 1000;

	while (module_users() != n && --tries)
		usleep(10000);
	return tries;
}

/*
 * Every kind of ring.
 */
FIXTURE(uring) {
	struct arena a;
	struct ring ring;
	struct meshhelper_pair pairs[BATCH];
	struct meshhelper_batch batch;
};

FIXTURE_VARIANT(uring) {
	unsigned int setup;
	unsigned int sqe_flags;
};

FIXTURE_VARIANT_ADD(uring, plain) { };

FIXTURE_VARIANT_ADD(uring, async) {
	.sqe_flags = IOSQE_ASYNC,
};

FIXTURE_VARIANT_ADD(uring, sqpoll) {
	.setup = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(uring, large_entries) {
	.setup = IORING_SETUP_SQE128 | IORING_SETUP_CQE32,
};

FIXTURE_VARIANT_ADD(uring, deferred) {
	.setup = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_SETUP(uring)
{
	self->a = arena_open(2 * BATCH, MESHHELPER_MERGE_ZAP);
	self->ring = ring_open(64, variant->setup);
	self->ring.sqe_flags = variant->sqe_flags;
	fill(&self->a);
	make_pairs(&self->a, self->pairs, BATCH);
	self->batch = make_batch(self->pairs, BATCH, MESHHELPER_MERGE_ZAP);
}

FIXTURE_TEARDOWN(uring)
{
	ring_close(&self->ring);
	arena_close(&self->a);
}

TEST_F(uring, info)
{
	struct meshhelper_info by_ioctl = device_info(self->a.fd), info = { 0 };

	EXPECT_NE(0, by_ioctl.features & MESHHELPER_F_URING_CMD);
	ASSERT_EQ(0, ring_request(&self->ring, self->a.fd, MESHHELPER_IOC_INFO, &info));
	EXPECT_EQ(0, memcmp(&by_ioctl, &info, sizeof(info)));
	EXPECT_EQ(-EFAULT, ring_request(&self->ring, self->a.fd, MESHHELPER_IOC_INFO, NULL));
}

TEST_F(uring, batch)
{
	long long meshed = counter("pages_meshed");

	ASSERT_EQ(0, ring_request(&self->ring, self->a.fd, MESHHELPER_IOC_MERGE, &self->batch));
	EXPECT_EQ(0, count_wrong(&self->a, self->pairs, BATCH, self->batch.nr_done));
	EXPECT_LE(BATCH / 2, self->batch.nr_done);
	EXPECT_EQ(self->batch.nr_done * PAGE, self->batch.pss_saved);
	EXPECT_EQ(meshed + self->batch.nr_done, counter("pages_meshed"));
}

/* A result is the pair's, not the command's. */
TEST_F(uring, results_are_per_pair)
{
	self->pairs[1].slot_size = 0;
	self->pairs[2].src = 0;
	self->pairs[3].flags = 1;
	self->batch.nr_pairs = 4;
	ASSERT_EQ(0, ring_request(&self->ring, self->a.fd, MESHHELPER_IOC_MERGE, &self->batch));
	EXPECT_EQ(-EINVAL, self->pairs[1].result);
	EXPECT_EQ(-EFAULT, self->pairs[2].result);
	EXPECT_EQ(-EINVAL, self->pairs[3].result);
	EXPECT_EQ(1, self->pairs[4].result);
	EXPECT_EQ(self->pairs[0].result ? 0 : 1, self->batch.nr_done);
}

/* The result of one command, changed by the caller before it goes. */
#define EXPECT_RESULT(error, cmd, change)					\
	do {									\
		struct io_uring_sqe *sqe = ring_command(&self->ring, self->a.fd, cmd, \
							&self->batch, 7);	\
		struct io_uring_cqe cqe;					\
										\
		(void)sqe;							\
		change;								\
		ring_submit(&self->ring);					\
		cqe = ring_wait(&self->ring);					\
		EXPECT_EQ(-(error), cqe.res) TH_LOG("after " #change);		\
		EXPECT_EQ(7, cqe.user_data);					\
	} while (0)

TEST_F(uring, malformed)
{
	const uint32_t merge_cmd = MESHHELPER_IOC_MERGE, magic = MESHHELPER_IOC_MAGIC;
	const struct meshhelper_batch good = self->batch;
	unsigned int i;

	ASSERT_EQ(0, ring_register_buffer(&self->ring, self->pairs, sizeof(self->pairs)));

	EXPECT_RESULT(ENOTTY, 0, /* nothing */);
	EXPECT_RESULT(ENOTTY, UINT32_MAX, /* nothing */);
	EXPECT_RESULT(ENOTTY, _IO(magic, 2), /* nothing */);
	EXPECT_RESULT(ENOTTY, _IO(magic, 0x7f), /* nothing */);
	EXPECT_RESULT(ENOTTY, _IOWR(magic, 2, int), /* nothing */);
	EXPECT_RESULT(ENOTTY, _IOW(magic, 2, struct meshhelper_batch), /* nothing */);
	EXPECT_RESULT(ENOTTY, _IOWR('u', 2, struct meshhelper_batch), /* nothing */);

	EXPECT_RESULT(EINVAL, merge_cmd, sqe_payload(sqe)->reserved = 1);
	EXPECT_RESULT(EINVAL, merge_cmd, sqe_payload(sqe)->reserved = 1ULL << 63);
	EXPECT_RESULT(EINVAL, merge_cmd, sqe->rw_flags = IORING_URING_CMD_FIXED);
	for (i = 1; i < 32; i++)
		EXPECT_RESULT(EINVAL, merge_cmd, sqe->rw_flags = 1U << i);
	EXPECT_RESULT(EINVAL, merge_cmd, sqe->__pad1 = 1);

	EXPECT_RESULT(EFAULT, merge_cmd, sqe_payload(sqe)->arg = 0);
	EXPECT_RESULT(EFAULT, merge_cmd, sqe_payload(sqe)->arg = 0xffff888000000000);
	EXPECT_RESULT(EFAULT, merge_cmd, sqe_payload(sqe)->arg = UINT64_MAX - 40);

	EXPECT_RESULT(EINVAL, merge_cmd, self->batch.flags = 0);
	self->batch = good;
	EXPECT_RESULT(EINVAL, merge_cmd, self->batch.nr_pairs = 0);
	self->batch = good;
	EXPECT_RESULT(EINVAL, merge_cmd, self->batch.nr_pairs = MESHHELPER_MAX_PAIRS + 1);
	self->batch = good;
	EXPECT_RESULT(EINVAL, merge_cmd, self->batch.reserved = 1);
	self->batch = good;
	EXPECT_RESULT(EINVAL, merge_cmd, self->batch.reserved2[1] = 1);
	self->batch = good;
	EXPECT_RESULT(EINVAL, MESHHELPER_IOC_ARM, /* nothing */);
	EXPECT_RESULT(EFAULT, merge_cmd, self->batch.pairs = 0);
	self->batch = good;

	for (i = 0; i < self->a.pages; i++)
		ASSERT_TRUE(page_intact(&self->a, i));
	EXPECT_EQ(1, self->pairs[0].result);
}

/* As many completions as commands, each with its own number, whatever became of it. */
TEST_F(uring, completions)
{
	static struct meshhelper_batch batches[64];
	unsigned int seen[64] = { 0 }, i;
	struct io_uring_cqe cqe;

	for (i = 0; i < 64; i++) {
		static const uint32_t cmds[] = { MESHHELPER_IOC_MERGE, MESHHELPER_IOC_ARM, 0 };

		batches[i] = make_batch(&self->pairs[i * 8], 8,
					i % 3 ? 0 : MESHHELPER_MERGE_ZAP);
		ring_command(&self->ring, self->a.fd, cmds[i % 3], &batches[i], i);
	}
	ring_submit(&self->ring);
	for (i = 0; i < 64; i++) {
		cqe = ring_wait(&self->ring);
		ASSERT_GT(64, cqe.user_data);
		seen[cqe.user_data]++;
		EXPECT_EQ(cqe.user_data % 3 == 2 ? -ENOTTY : 0, cqe.res);
	}
	for (i = 0; i < 64; i++)
		EXPECT_EQ(1, seen[i]);
	EXPECT_FALSE(ring_reap(&self->ring, &cqe));
	for (i = 0; i < 64; i += 3)
		EXPECT_LT(0, batches[i].nr_done);
}

/* A command that fails takes those linked to it along. */
TEST_F(uring, linked)
{
	struct io_uring_cqe cqe;
	unsigned int i;

	for (i = 0; i < 3; i++)
		ring_command(&self->ring, self->a.fd, i == 1 ? 0 : MESHHELPER_IOC_MERGE,
			     &self->batch, i)->flags |= IOSQE_IO_LINK;
	ring_submit(&self->ring);
	for (i = 0; i < 3; i++) {
		cqe = ring_wait(&self->ring);
		EXPECT_EQ(i, cqe.user_data);
		EXPECT_EQ(i == 0 ? 0 : i == 1 ? -ENOTTY : -ECANCELED, cqe.res);
	}
	EXPECT_EQ(0, count_wrong(&self->a, self->pairs, BATCH, self->batch.nr_done));
}

/*
 * The submitter is not held up by a command that waits, nor is the ring: the next
 * command, which need not wait, overtakes it.
 */
TEST_F(uring, submission_never_waits)
{
	struct gate gate = gate_make(1);
	struct meshhelper_info info;
	struct io_uring_cqe cqe;

	memcpy(gate.content, self->pairs, PAGE);
	self->batch = make_batch((void *)gate.base, PER_PAGE, MESHHELPER_MERGE_ZAP);
	ring_command(&self->ring, self->a.fd, MESHHELPER_IOC_MERGE, &self->batch, 1);
	ring_submit(&self->ring);
	gate_wait(&gate);

	ring_command(&self->ring, self->a.fd, MESHHELPER_IOC_INFO, &info, 2);
	ring_submit(&self->ring);
	cqe = ring_wait(&self->ring);
	EXPECT_EQ(2, cqe.user_data);
	EXPECT_EQ(0, cqe.res);
	EXPECT_TRUE(page_intact(&self->a, 1));

	gate_open(&gate, 0);
	cqe = ring_wait(&self->ring);
	EXPECT_EQ(1, cqe.user_data);
	EXPECT_EQ(0, cqe.res);
	EXPECT_EQ(0, count_wrong(&self->a, (void *)gate.base, PER_PAGE, self->batch.nr_done));
	gate_close(&gate);
}

/*
 * All that a command has read is overwritten before it goes on. It does what it was
 * asked, and reports where it was asked to.
 */
TEST_F(uring, request_is_read_once)
{
	struct meshhelper_pair *pairs;
	struct gate gate = gate_make(2);
	struct io_uring_cqe cqe;
	unsigned int i;

	memcpy(gate.content, self->pairs, 2 * PAGE);
	gate_open(&gate, 0);
	pairs = (void *)gate.base;
	self->batch = make_batch(pairs, 2 * PER_PAGE, MESHHELPER_MERGE_ZAP);
	ring_command(&self->ring, self->a.fd, MESHHELPER_IOC_MERGE, &self->batch, 1);
	ring_submit(&self->ring);
	gate_wait(&gate);

	memset(self->ring.sqes, 0xff, self->ring.p.sq_entries * self->ring.sqe_size);
	self->batch = (struct meshhelper_batch) {
		.pairs = (uintptr_t)self->pairs,
		.nr_pairs = MESHHELPER_MAX_PAIRS,
		.flags = MESHHELPER_MERGE_ARMED,
		.reserved = UINT32_MAX,
	};
	for (i = 0; i < PER_PAGE; i++) {
		pairs[i].src = (uintptr_t)page_at(&self->a, 2 * BATCH - 1 - i);
		pairs[i].dst = (uintptr_t)page_at(&self->a, BATCH - i);
		pairs[i].pages = MESHHELPER_MAX_SPAN_PAGES;
		pairs[i].slot_size = 1;
		pairs[i].live[0] = ~pairs[i].live[0];
	}
	gate_open(&gate, 1);

	cqe = ring_wait(&self->ring);
	EXPECT_EQ(0, cqe.res);
	EXPECT_EQ(0, count_wrong(&self->a, pairs, 2 * PER_PAGE, self->batch.nr_done));
	EXPECT_LT(0, self->batch.nr_done);
	EXPECT_EQ(UINT32_MAX, self->batch.reserved);
	for (i = 4 * PER_PAGE; i < self->a.pages; i++)
		ASSERT_TRUE(page_intact(&self->a, i));
	for (i = 0; i < BATCH; i++)
		ASSERT_EQ(1, self->pairs[i].result);
	gate_close(&gate);
}

/* An SQE is the application's again when it was submitted, be the command begun or not. */
TEST_F(uring, entry_is_read_at_submission)
{
	struct meshhelper_info by_ioctl = device_info(self->a.fd), info = { 0 };
	struct gate gate = gate_make(1);
	unsigned int i, workers[2] = { 1, 1 };
	struct io_uring_cqe cqe;

	/* One worker only, and that is held. */
	ASSERT_EQ(0, syscall(SYS_io_uring_register, self->ring.fd,
			     IORING_REGISTER_IOWQ_MAX_WORKERS, workers, 2));
	memcpy(gate.content, self->pairs, PAGE);
	self->batch = make_batch((void *)gate.base, PER_PAGE, MESHHELPER_MERGE_ZAP);
	ring_command(&self->ring, self->a.fd, MESHHELPER_IOC_MERGE, &self->batch, 1);
	ring_submit(&self->ring);
	gate_wait(&gate);

	ring_command(&self->ring, self->a.fd, MESHHELPER_IOC_INFO, &info, 2);
	ring_submit(&self->ring);
	ring_wait_submitted(&self->ring);
	memset(self->ring.sqes, 0xff, self->ring.p.sq_entries * self->ring.sqe_size);
	gate_open(&gate, 0);
	for (i = 0; i < 2; i++) {
		cqe = ring_wait(&self->ring);
		EXPECT_EQ(0, cqe.res) TH_LOG("command %llu", cqe.user_data);
	}
	EXPECT_EQ(0, memcmp(&by_ioctl, &info, sizeof(info)));
	gate_close(&gate);
}

/* A cancelled command ends before its next pair, and still completes and reports. */
TEST_F(uring, cancelled)
{
	struct gate gate = gate_make(1);
	struct meshhelper_pair *pairs = (void *)gate.base;
	struct io_uring_cqe cqe;
	unsigned int i;

	memcpy(gate.content, self->pairs, PAGE);
	self->batch = make_batch(pairs, PER_PAGE, MESHHELPER_MERGE_ZAP);
	ring_command(&self->ring, self->a.fd, MESHHELPER_IOC_MERGE, &self->batch, 1);
	ring_submit(&self->ring);
	gate_wait(&gate);

	ring_sqe(&self->ring, IORING_OP_ASYNC_CANCEL, -1, 2)->addr = 1;
	ring_submit(&self->ring);
	cqe = ring_wait(&self->ring);
	EXPECT_EQ(2, cqe.user_data);
	EXPECT_EQ(-EALREADY, cqe.res);

	gate_open(&gate, 0);
	cqe = ring_wait(&self->ring);
	EXPECT_EQ(1, cqe.user_data);
	EXPECT_EQ(0, cqe.res);
	EXPECT_EQ(0, self->batch.nr_done);
	for (i = 0; i < PER_PAGE; i++) {
		ASSERT_EQ(-EINTR, pairs[i].result);
		ASSERT_TRUE(page_intact(&self->a, 2 * i + 1));
	}
	gate_close(&gate);
}

/* The command outlives ring and descriptor, and then leaves nothing behind. */
TEST_F(uring, ring_closed_in_flight)
{
	struct gate gate = gate_make(1);
	long long users = module_users();
	struct ring ring = ring_open(8, variant->setup);
	int fd = device_open();
	unsigned int i;

	ring.sqe_flags = variant->sqe_flags;
	memcpy(gate.content, self->pairs, PAGE);
	self->batch = make_batch((void *)gate.base, PER_PAGE, MESHHELPER_MERGE_ZAP);
	for (i = 0; i < 8; i++)
		ring_command(&ring, fd, MESHHELPER_IOC_MERGE, &self->batch, i);
	ring_submit(&ring);
	gate_wait(&gate);
	ring_close(&ring);
	close(fd);
	EXPECT_EQ(users + 1, module_users());

	gate_open(&gate, 0);
	EXPECT_TRUE(module_users_become(users));
	for (i = 0; i < PER_PAGE; i++)
		ASSERT_TRUE(page_merged(&self->a, 2 * i + 1, 2 * i) ||
			    (page_intact(&self->a, 2 * i + 1) && page_intact(&self->a, 2 * i)));
	gate_close(&gate);
}

/*
 * Merges in a ring of its own for ever, until it is killed; says so in @fd when the
 * first of several commands in flight is complete. Never more are in flight than the
 * ring has completions for.
 */
static void churn(unsigned int setup, unsigned int sqe_flags, int fd)
{
	static struct meshhelper_pair pairs[4][128];
	static struct meshhelper_batch batches[4];
	struct arena a = arena_open(4 * 256, MESHHELPER_MERGE_ZAP);
	struct ring ring = ring_open(8, setup);
	unsigned int i, k;

	ring.sqe_flags = sqe_flags;
	for (;;) {
		madvise(a.base, a.pages * PAGE, MADV_REMOVE);
		for (i = 0; i < a.pages; i++)
			*page_at(&a, i) = 1;
		for (i = 0; i < 4; i++) {
			for (k = 0; k < 128; k++)
				pairs[i][k] = odd_pair(&a, 256 * i + 2 * k + 1, 256 * i + 2 * k);
			batches[i] = make_batch(pairs[i], 128, MESHHELPER_MERGE_ZAP);
			ring_command(&ring, a.fd, MESHHELPER_IOC_MERGE, &batches[i], i);
		}
		ring_submit(&ring);
		for (i = 0; i < 4; i++) {
			ring_wait(&ring);
			if (fd >= 0 && write(fd, "x", 1) != 1)
				die("pipe");
			fd = -1;
		}
	}
}

TEST_F_TIMEOUT(uring, owner_killed, 120)
{
	long long arenas = counter("arenas"), meshed = counter("pages_meshed");
	long long users = module_users(), merges = counter("merges_total");
	/* A round takes seconds on a kernel that checks all that it does. */
	unsigned int i, rounds = slow_factor() > 1 ? 5 : 25;
	int fds[2];
	char c;

	ASSERT_EQ(0, pipe(fds));
	for (i = 0; i < rounds; i++) {
		pid_t pid = fork();

		if (!pid)
			churn(variant->setup, variant->sqe_flags, fds[1]);
		ASSERT_EQ(1, read(fds[0], &c, 1));
		usleep(i * 12500 / rounds);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	}
	EXPECT_TRUE(module_users_become(users));
	EXPECT_EQ(arenas, counter("arenas"));
	EXPECT_EQ(meshed, counter("pages_meshed"));
	EXPECT_LT(merges + 100, counter("merges_total"));
}

/* Killed while a command waits inside: with the last pairs not even read. */
TEST_F(uring, owner_killed_at_gate)
{
	struct gate gate = gate_make(1);
	long long users = module_users();
	int status, pipe_fds[2];
	char c;
	pid_t pid;

	ASSERT_EQ(0, pipe(pipe_fds));
	pid = fork();
	if (!pid) {
		struct gate own = gate_make(1);
		struct ring ring = ring_open(8, variant->setup);

		ring.sqe_flags = variant->sqe_flags;
		self->batch = make_batch((void *)own.base, PER_PAGE, MESHHELPER_MERGE_ZAP);
		ring_command(&ring, self->a.fd, MESHHELPER_IOC_MERGE, &self->batch, 1);
		ring_submit(&ring);
		gate_wait(&own);
		if (write(pipe_fds[1], "x", 1) != 1)
			die("pipe");
		ring_wait(&ring);
		_exit(1);
	}
	ASSERT_EQ(1, read(pipe_fds[0], &c, 1));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_TRUE(module_users_become(users));
	EXPECT_TRUE(page_intact(&self->a, 1));
	gate_close(&gate);
}

/*
 * A thread writes to the SQEs, to the batch and to the pairs all the time, while the
 * commands run. Whatever the kernel gets to see: a command completes once; a slot has
 * the contents of that slot of one of the pages that were named, and is not torn; and
 * pages that were never named are as they were, as is all of another process.
 *
 * The pages that are named are 16 in a row, aligned to their size, so that an address
 * made of bytes of two others is one of them, too.
 */
#define NAMED	16

struct scribble {
	struct ring *ring;
	struct arena *arena;
	size_t first;
	/* So that no two addresses of the first four differ in more than a byte. */
	_Alignas(PAGE) struct meshhelper_pair pairs[32];
	union {
		struct meshhelper_batch batch;
		struct meshhelper_info info;
	} arg;
	atomic_bool stop;
	pthread_t thread;
};

static void scribble_pair(struct scribble *s, volatile struct meshhelper_pair *pair,
			  uint64_t r)
{
	/* A span of two pages must not begin in the last. */
	pair->src = (uintptr_t)page_at(s->arena, s->first + r % 15);
	pair->dst = (uintptr_t)page_at(s->arena, s->first + (r >> 4) % 15);
	pair->pages = 1 + ((r >> 8) % 16 == 0);
	pair->slot_size = (r >> 12) % 16 ? SLOT : 2 * SLOT;
	pair->flags = (r >> 16) % 16 == 0;
	pair->live[0] = r * 0x9E3779B97F4A7C15;
	if (pair->slot_size != SLOT)
		pair->live[0] &= UINT32_MAX;
	/* Nowhere at all, however its bytes are mixed with those of good addresses. */
	if ((r >> 20) % 16 == 0)
		pair->src |= 1ULL << 63;
	if ((r >> 24) % 16 == 0)
		pair->dst |= 1;
}

static void scribble_batch(struct scribble *s, volatile struct meshhelper_batch *batch,
			   uint64_t r)
{
	batch->pairs = (uintptr_t)&s->pairs[r % 4];
	batch->nr_pairs = (r >> 8) % 16 ? 1 + (r >> 12) % 28 : 0;
	batch->flags = 1 + (r >> 20) % 8 / 2;
	batch->reserved = (r >> 24) % 8 == 0;
	batch->reserved2[0] = 0;
	batch->reserved2[1] = 0;
}

static void scribble_sqe(struct scribble *s, struct io_uring_sqe *sqe, uint64_t r)
{
	static const uint32_t cmds[] = {
		MESHHELPER_IOC_MERGE, MESHHELPER_IOC_MERGE, MESHHELPER_IOC_ARM,
		MESHHELPER_IOC_INFO, 0,
	};
	volatile struct meshhelper_uring_cmd *payload = sqe_payload(sqe);

	*(volatile uint32_t *)&sqe->cmd_op = cmds[r % 5];
	payload->arg = (r >> 8) % 8 ? (uintptr_t)&s->arg : 0xffff888000000000;
	payload->reserved = (r >> 12) % 8 == 0;
}

static void *scribble_forever(void *arg)
{
	struct scribble *s = arg;
	uint64_t state = 4711;

	while (!s->stop) {
		uint64_t r = next_random(&state);

		scribble_pair(s, &s->pairs[r >> 58 & 31], r);
		scribble_batch(s, &s->arg.batch, next_random(&state));
		scribble_sqe(s, (void *)(s->ring->sqes + (r >> 50) % 8 * s->ring->sqe_size),
			     next_random(&state));
	}
	return NULL;
}

static size_t first_named(struct arena *a)
{
	size_t first = NAMED;

	while ((uintptr_t)page_at(a, first) % (NAMED * PAGE))
		first++;
	return first;
}

/* Slots that have something else than a named page's slot of that number. */
static unsigned int scribbled_wrong(struct scribble *s)
{
	unsigned int wrong = 0, slot;
	size_t page;

	for (page = 0; page < s->arena->pages; page++) {
		if (page < s->first || page >= s->first + NAMED) {
			wrong += !page_intact(s->arena, page);
			continue;
		}
		for (slot = 0; slot < SLOTS; slot++) {
			long origin = slot_origin(s->arena, page, slot);

			wrong += origin < (long)s->first || origin >= (long)s->first + NAMED;
		}
	}
	return wrong;
}

static unsigned int scribble_round(struct scribble *s)
{
	unsigned int seen = 0, i;

	madvise(page_at(s->arena, s->first), NAMED * PAGE, MADV_REMOVE);
	for (i = 0; i < NAMED; i++)
		fill_page(s->arena, s->first + i);
	for (i = 0; i < 8; i++)
		ring_command(s->ring, s->arena->fd, MESHHELPER_IOC_MERGE, &s->arg, i);
	ring_submit(s->ring);
	for (i = 0; i < 8; i++)
		seen |= 1 << ring_wait(s->ring).user_data;
	return (seen != 0xff) + scribbled_wrong(s);
}

/* Another process with the same addresses: a copy that nobody may have touched. */
static pid_t start_witness(struct arena *a, int *release)
{
	int fds[2];
	size_t page;
	pid_t pid;
	char c;

	if (pipe(fds))
		die("pipe");
	pid = fork();
	if (pid) {
		close(fds[0]);
		*release = fds[1];
		return pid;
	}
	close(fds[1]);
	if (read(fds[0], &c, 1))
		_exit(2);
	for (page = 0; page < a->pages; page++)
		if (!page_intact(a, page))
			_exit(1);
	_exit(0);
}

static long long refusals(void)
{
	return counter("pairs_total") - counter("merges_total");
}

TEST_F_TIMEOUT(uring, rewritten_meanwhile, 120)
{
	static struct scribble s;
	unsigned int rounds, wrong = 0;
	long long merges, refused;
	int release, status;
	pid_t witness;

	arena_close(&self->a);
	self->a = arena_open(4 * NAMED, MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	witness = start_witness(&self->a, &release);
	/* What it still shared would not be merged. */
	fill(&self->a);
	s = (struct scribble) { .ring = &self->ring, .arena = &self->a };
	s.first = first_named(&self->a);
	merges = counter("merges_total");
	refused = refusals();
	ASSERT_EQ(0, pthread_create(&s.thread, NULL, scribble_forever, &s));
	/* Until both merges and refusals have been seen, or it would be no test. */
	for (rounds = 0; !wrong && (rounds < scaled(150) ||
				    counter("merges_total") < merges + 100 ||
				    refusals() < refused + 100); rounds++)
		wrong = scribble_round(&s);
	s.stop = true;
	pthread_join(s.thread, NULL);
	EXPECT_EQ(0, wrong) TH_LOG("in round %u", rounds);
	close(release);
	ASSERT_EQ(witness, waitpid(witness, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * Rings of two processes. Each has a pair and a batch of its own, which those of a
 * fixture would not be: the harness shares them with its parent.
 */
static struct meshhelper_pair fork_pair;
static struct meshhelper_batch fork_batch;

FIXTURE(uring_fork) {
	struct arena a;
	struct ring ring;
};

FIXTURE_SETUP(uring_fork)
{
	self->a = arena_open(2, MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	fork_pair = odd_pair(&self->a, 1, 0);
	fork_batch = make_batch(&fork_pair, 1, MESHHELPER_MERGE_ZAP);
}

FIXTURE_TEARDOWN(uring_fork)
{
	ring_close(&self->ring);
	arena_close(&self->a);
}

enum { MERGED, INTACT, NEITHER };

static int fork_state(struct arena *a)
{
	if (!fork_pair.result && page_merged(a, 1, 0))
		return MERGED;
	if (fork_pair.result == 1 && page_intact(a, 0) && page_intact(a, 1))
		return INTACT;
	return NEITHER;
}

/* What relatives share is not merged: a write of what is there already ends that. */
static void unshare_pages(struct arena *a)
{
	size_t i;

	for (i = 0; i < 2; i++) {
		volatile char *page = page_at(a, i);

		*page = *page;
	}
}

/*
 * Merge through the ring; the state afterwards, or more on failure. Pages may be busy for a
 * moment; then the caller sees -EBUSY in its own pair.
 */
static int merge_by_ring(struct arena *a, struct ring *ring)
{
	int tries = 20;

	do {
		if (ring_request(ring, a->fd, MESHHELPER_IOC_MERGE, &fork_batch))
			return 100;
		if (fork_pair.result != -EBUSY)
			break;
		usleep(1000);
	} while (--tries);
	return fork_state(a);
}

/* Let a child do so; what it returns. */
static int merge_in_child(struct arena *a, struct ring *ring)
{
	pid_t pid = fork();
	int status;

	if (pid) {
		if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
			die("the child");
		return WEXITSTATUS(status);
	}
	unshare_pages(a);
	_exit(merge_by_ring(a, ring));
}

/* What a child submits acts on the child. */
TEST_F(uring_fork, child_submits)
{
	self->ring = ring_open(8, 0);
	EXPECT_EQ(MERGED, merge_in_child(&self->a, &self->ring));
	EXPECT_EQ(INTACT, fork_state(&self->a));
	EXPECT_EQ(0, fork_batch.nr_done);
	/* And the parent's requests on the parent, still. */
	EXPECT_EQ(MERGED, merge_by_ring(&self->a, &self->ring));
}

/* The polling thread belongs to who made the ring, and so do its requests. */
TEST_F(uring_fork, child_submits_to_sqpoll)
{
	int tries = 20;

	self->ring = ring_open(8, IORING_SETUP_SQPOLL);
	do {
		EXPECT_EQ(INTACT, merge_in_child(&self->a, &self->ring));
		if (fork_pair.result != -EBUSY)
			break;
		fork_pair.result = 1;
		usleep(1000);
	} while (--tries);
	EXPECT_EQ(MERGED, fork_state(&self->a));
	EXPECT_EQ(1, fork_batch.nr_done);
}

/* The maker of a ring is gone; who inherited it goes on, on memory of its own. */
TEST_F(uring_fork, maker_has_exited)
{
	int fds[2], ret = -1;

	self->ring = ring_open(8, 0);
	ASSERT_EQ(0, pipe(fds));
	if (!fork()) {
		/* A ring made here, and used only by the child of this process. */
		struct ring ring = ring_open(8, 0);
		pid_t maker = getpid();

		if (fork())
			_exit(0);
		while (getppid() == maker)
			usleep(1000);
		unshare_pages(&self->a);
		ret = merge_by_ring(&self->a, &ring);
		if (write(fds[1], &ret, sizeof(ret)) != sizeof(ret))
			die("pipe");
		_exit(0);
	}
	wait(NULL);
	ASSERT_EQ(sizeof(ret), read(fds[0], &ret, sizeof(ret)));
	EXPECT_EQ(MERGED, ret);
	EXPECT_EQ(INTACT, fork_state(&self->a));
}

/* There are no polled completions: a ring that wants them is told so, or does without. */
TEST(uring_iopoll)
{
	struct arena a = arena_open(2, MESHHELPER_MERGE_ZAP);
	struct ring ring = ring_open(8, IORING_SETUP_IOPOLL);
	struct meshhelper_info info = { 0 };
	int ret = ring_request(&ring, a.fd, MESHHELPER_IOC_INFO, &info);

	EXPECT_TRUE(!ret || ret == -EOPNOTSUPP);
	EXPECT_EQ(ret ? 0 : MESHHELPER_ABI_VERSION, info.abi_version);
	ring_close(&ring);
	arena_close(&a);
}

/*
 * ARM, too.
 */
FIXTURE(uring_armed) {
	struct arena a;
	struct ring ring;
	struct meshhelper_pair pairs[BATCH];
	struct meshhelper_batch batch;
};

FIXTURE_SETUP(uring_armed)
{
	if (!mode_supported(MESHHELPER_MERGE_ARMED))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	self->a = arena_open(2 * BATCH, MESHHELPER_MERGE_ARMED);
	self->ring = ring_open(8, 0);
	fill(&self->a);
	make_pairs(&self->a, self->pairs, BATCH);
	self->batch = make_batch(self->pairs, BATCH, 0);
}

FIXTURE_TEARDOWN(uring_armed)
{
	if (!self->a.base)
		return;
	ring_close(&self->ring);
	arena_close(&self->a);
}

TEST_F(uring_armed, batch)
{
	unsigned int i;

	ASSERT_EQ(0, ring_request(&self->ring, self->a.fd, MESHHELPER_IOC_ARM, &self->batch));
	EXPECT_EQ(BATCH, self->batch.nr_done);
	for (i = 0; i < BATCH; i++) {
		ASSERT_EQ(0, self->pairs[i].result);
		protect(&self->a, page_at(&self->a, 2 * i + 1), PAGE);
	}
	/* A slot that is in use; the write ends the watch. */
	*slot_words(&self->a, 1, 1) = slot_value(1, 1);
	self->batch = make_batch(self->pairs, BATCH, MESHHELPER_MERGE_ARMED);
	ASSERT_EQ(0, ring_request(&self->ring, self->a.fd, MESHHELPER_IOC_MERGE, &self->batch));
	EXPECT_EQ(-EAGAIN, self->pairs[0].result);
	EXPECT_TRUE(page_intact(&self->a, 1));
	EXPECT_EQ(1, count_wrong(&self->a, self->pairs, BATCH, self->batch.nr_done));
	EXPECT_LE(BATCH / 2, self->batch.nr_done);
}

TEST_HARNESS_MAIN
