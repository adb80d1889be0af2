// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Failure of each allocation and each user copy in turn: the n-th one of an operation fails, for
 * n = 1 and on until nothing is left to fail. After each the memory is compared with a model byte
 * by byte, counters have to balance, and the same operation has to succeed without a failure.
 *
 * Needs a kernel with CONFIG_FAULT_INJECTION, FAILSLAB, FAIL_PAGE_ALLOC and
 * FAULT_INJECTION_USERCOPY.
 */
#include "arena.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define KNOBS		"/sys/kernel/debug/"
#define CGROUPS		"/sys/fs/cgroup"
#define GROUP		CGROUPS "/mesh-failnth"
#define PAGES		16
#define SLOT_SIZE	2048
/* Far more than any operation takes: a loop that gets here does not end. */
#define MOST_FAILURES	10000U

/* Spans of two pages each, by their first page. SRC's second page is never touched. */
#define SRC		0
#define DST		2
#define DST_ALIAS	4
#define LONE		6
#define SRC_ALIAS	8

/**
 * struct world - what an operation works on; made anew for each n
 * @a: the arena
 * @model: what is expected to be in it
 * @pair: SRC into DST
 * @orphan: the last child of fork had no arena
 */
struct world {
	struct arena a;
	char model[PAGES * PAGE];
	struct meshhelper_pair pair;
	bool orphan;
};

/**
 * struct operation - what is made to fail
 * @prepare: state in which it is done, or NULL; nothing fails yet
 * @ready: before each attempt, or NULL; nothing fails here either
 * @run: do it; 0 or a negative errno, -EPROTO for what must not come of it
 * @done: it was done: change the model, or NULL
 * @merges: by how much doing it changes merges_total
 * @meshed: same for pages_meshed
 * @infallible: it is always done: needs no memory, or waits for it
 */
struct operation {
	void (*prepare)(struct world *w);
	void (*ready)(struct world *w);
	int (*run)(struct world *w);
	void (*done)(struct world *w);
	long long merges, meshed;
	bool infallible;
};

struct counters {
	long long arenas, meshed, merges, aborts, fork_failures;
};

static struct counters read_counters(void)
{
	return (struct counters) {
		.arenas = counter("arenas"),
		.meshed = counter("pages_meshed"),
		.merges = counter("merges_total"),
		.aborts = counter("pairs_total") - counter("merges_total"),
		.fork_failures = counter("fork_failures_total"),
	};
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die(path);
	close(fd);
}

/*
 * The kernel writes to the thread's rseq area on the way back to user space, after a fork for
 * example, and sends SIGSEGV when that fails. That is not what is tested here.
 */
static void rseq_off(void)
{
	void *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	if (__rseq_size &&
	    syscall(SYS_rseq, area, sizeof(struct rseq), RSEQ_FLAG_UNREGISTER, RSEQ_SIG))
		die("rseq");
}

/* Everything may fail, allocations that could wait for memory first of all, and quietly. */
static void allow_failures(void)
{
	write_file(KNOBS "failslab/ignore-gfp-wait", "N");
	write_file(KNOBS "failslab/verbose", "0");
	write_file(KNOBS "fail_page_alloc/ignore-gfp-wait", "N");
	write_file(KNOBS "fail_page_alloc/ignore-gfp-highmem", "N");
	write_file(KNOBS "fail_page_alloc/min-order", "0");
	write_file(KNOBS "fail_page_alloc/verbose", "0");
	write_file(KNOBS "fail_usercopy/verbose", "0");
	rseq_off();
}

static int nth_open(void)
{
	return open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
}

static void nth_start(int fd, unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(fd, text, len, 0) != len)
		die("fail-nth");
}

/*
 * Did something fail since nth_start()? The read is a call like any other: when it fails itself,
 * nothing had before. The same goes for the write, and then there is nothing left to stop.
 */
static bool nth_stop(int fd)
{
	char left[16] = "";
	bool failed = pread(fd, left, sizeof(left) - 1, 0) > 0 && !atoi(left);

	if (pwrite(fd, "0", 1, 0) != 1 && errno != EFAULT)
		die("fail-nth");
	return failed;
}

static char *model_at(struct world *w, size_t index)
{
	return w->model + index * PAGE;
}

static void fill(struct world *w, size_t index, size_t pages, char c)
{
	memset(page_at(&w->a, index), c, pages * PAGE);
	memset(model_at(w, index), c, pages * PAGE);
}

static bool as_model(struct world *w)
{
	return !memcmp(w->a.base, w->model, w->a.pages * PAGE);
}

static struct meshhelper_pair make_span_pair(struct world *w, size_t src, size_t dst,
					     unsigned int live)
{
	struct meshhelper_pair pair = make_pair(page_at(&w->a, src), page_at(&w->a, dst),
						SLOT_SIZE);

	pair.pages = 2;
	set_live(&pair, live);
	return pair;
}

/* Both spans of @pair show the target's contents with the live slots of the source. */
static void model_merge(struct world *w, const struct meshhelper_pair *pair)
{
	char *src = w->model + (pair->src - (uintptr_t)w->a.base);
	char *dst = w->model + (pair->dst - (uintptr_t)w->a.base);
	unsigned int slot;

	for (slot = 0; slot < 2 * PAGE / SLOT_SIZE; slot++)
		if (pair->live[0] >> slot & 1)
			memcpy(dst + slot * SLOT_SIZE, src + slot * SLOT_SIZE, SLOT_SIZE);
	memcpy(src, dst, 2 * PAGE);
}

static void must_merge(struct world *w, size_t src, size_t dst, unsigned int live)
{
	struct meshhelper_pair pair = make_span_pair(w, src, dst, live);

	errno = -merge_one(&w->a, &pair);
	if (errno)
		die("merge");
	model_merge(w, &pair);
}

static void world_open(struct world *w, uint32_t mode)
{
	memset(w, 0, sizeof(*w));
	w->a = arena_open(PAGES, mode);
	fill(w, SRC, 1, 's');
	fill(w, DST, 2, 'd');
	fill(w, LONE, 2, 'l');
	w->pair = make_span_pair(w, SRC, DST, 0);
}

/* One attempt, with the n-th failure, or none if n is 0. */
static int attempt(struct __test_metadata *_metadata, struct world *w,
		   const struct operation *op, int fd, unsigned int n, bool *failed)
{
	struct counters before, after;
	int result;

	if (op->ready)
		op->ready(w);
	before = read_counters();
	nth_start(fd, n);
	result = op->run(w);
	*failed = nth_stop(fd);
	after = read_counters();

	if (!result && op->done)
		op->done(w);
	ASSERT_NE(-EPROTO, result) TH_LOG("failure %u", n);
	ASSERT_TRUE(as_model(w)) TH_LOG("failure %u, result %d", n, result);
	ASSERT_EQ(before.arenas, after.arenas) TH_LOG("failure %u, result %d", n, result);
	ASSERT_EQ(before.merges + (result ? 0 : op->merges), after.merges)
		TH_LOG("failure %u, result %d", n, result);
	ASSERT_EQ(before.meshed + (result ? 0 : op->meshed), after.meshed)
		TH_LOG("failure %u, result %d", n, result);
	ASSERT_EQ(before.aborts + (w->pair.result < 0 && op->merges), after.aborts)
		TH_LOG("failure %u, result %d", n, result);
	ASSERT_EQ(before.fork_failures + w->orphan, after.fork_failures)
		TH_LOG("failure %u, result %d", n, result);
	return result;
}

/* The loop that this file is about. */
static void fail_each(struct __test_metadata *_metadata, const struct operation *op, uint32_t mode)
{
	static struct world w;
	struct counters before = read_counters(), after;
	bool failed = true, ignored;
	int fd = nth_open(), result;
	unsigned int n;

	for (n = 0; failed; n++) {
		ASSERT_GT(MOST_FAILURES, n);
		world_open(&w, mode);
		if (op->prepare)
			op->prepare(&w);
		result = attempt(_metadata, &w, op, fd, n + 1, &failed);
		ASSERT_TRUE(!result || !op->infallible) TH_LOG("failure %u", n + 1);
		if (result) {
			/* Nothing but the failure was in the way. */
			ASSERT_TRUE(failed) TH_LOG("result %d without a failure", result);
			result = attempt(_metadata, &w, op, fd, 0, &ignored);
			ASSERT_EQ(0, result) TH_LOG("again, after failure %u", n + 1);
		}
		arena_close(&w.a);
		after = read_counters();
		ASSERT_EQ(before.arenas, after.arenas) TH_LOG("failure %u", n + 1);
		ASSERT_EQ(before.meshed, after.meshed) TH_LOG("failure %u", n + 1);
	}
	close(fd);
	TH_LOG("%u places to fail", n - 1);
	EXPECT_TRUE(n > 1 || op->infallible);
}

FIXTURE(failnth) {
};

FIXTURE_SETUP(failnth)
{
	int fd = nth_open();

	if (fd < 0)
		SKIP(return, "kernel has no fail-nth");
	close(fd);
	allow_failures();
}

FIXTURE_TEARDOWN(failnth)
{
}

static int run_info(struct world *w)
{
	struct meshhelper_info info = { 0 };

	if (ioctl(w->a.fd, MESHHELPER_IOC_INFO, &info))
		return -errno;
	return info.abi_version == MESHHELPER_ABI_VERSION ? 0 : -EPROTO;
}

TEST_F(failnth, info)
{
	static const struct operation op = { .run = run_info };

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

static int run_open(struct world *w)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	(void)w;
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

TEST_F(failnth, open)
{
	static const struct operation op = { .run = run_open };

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/* A second arena; all of it has to read as zeroes. */
static int run_mmap(struct world *w)
{
	char *base = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, w->a.fd, 0);
	int result = 0;

	if (base == MAP_FAILED)
		return -errno;
	if (base[0] || memcmp(base, base + 1, 2 * PAGE - 1))
		result = -EPROTO;
	munmap(base, 2 * PAGE);
	return result;
}

TEST_F(failnth, mmap)
{
	static const struct operation op = { .run = run_mmap };

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/* An empty arena, and nothing else near it: no page table, and room to grow into. */
static void place_alone(struct world *w, size_t pages)
{
	void *place = (void *)0x200000000000;

	arena_close(&w->a);
	w->a.fd = device_open();
	w->a.pages = pages;
	w->a.base = mmap(place, pages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED_NOREPLACE, w->a.fd, 0);
	if (w->a.base != place)
		die("mmap with room above");
	memset(w->model, 0, sizeof(w->model));
}

static void prepare_growth(struct world *w)
{
	place_alone(w, PAGES / 2);
	fill(w, 0, PAGES / 2, 'g');
}

static int run_growth(struct world *w)
{
	size_t size = w->a.pages * PAGE;

	return mremap(w->a.base, size, 2 * size, 0) == MAP_FAILED ? -errno : 0;
}

static void done_growth(struct world *w)
{
	w->a.pages = PAGES;
}

/* In place it needs no memory, as it is now; elsewhere it would not be an arena's growth. */
TEST_F(failnth, mremap)
{
	static const struct operation op = {
		.prepare = prepare_growth,
		.run = run_growth,
		.done = done_growth,
		.infallible = true,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

static void prepare_groups(struct world *w)
{
	fill(w, DST_ALIAS, 2, 'D');
	fill(w, SRC_ALIAS, 2, 'S');
	must_merge(w, DST_ALIAS, DST, 2);
	must_merge(w, SRC_ALIAS, SRC, 1);
}

/* Is a page that was filled still there, be it in the swap cache? */
static bool in_memory(struct world *w)
{
	unsigned char there[PAGES];

	if (mincore(w->a.base, PAGES * PAGE, there))
		die("mincore");
	return there[SRC] || there[DST] || there[DST + 1] || there[LONE];
}

/*
 * To swap and, where the kernel can be moved to it, out of the swap cache, so that pages have to be
 * allocated to come back. What is on its way to the disk takes another try.
 */
static void page_out(struct world *w)
{
	int fd = open(GROUP "/memory.reclaim", O_WRONLY | O_CLOEXEC), tries = 20;

	do {
		madvise(w->a.base, w->a.pages * PAGE, MADV_PAGEOUT);
		if (write(fd, "256K", 4) != 4 && errno != EAGAIN)
			die("memory.reclaim");
	} while (in_memory(w) && --tries);
	close(fd);
}

/* Reclaim shall find little else than the arena. */
static void group_enter(void)
{
	write_file(CGROUPS "/cgroup.subtree_control", "+memory");
	if (mkdir(GROUP, 0755) && errno != EEXIST)
		die(GROUP);
	write_file(GROUP "/cgroup.procs", "0");
}

static void group_leave(void)
{
	write_file(CGROUPS "/cgroup.procs", "0");
	rmdir(GROUP);
}

static bool has_swap(void)
{
	char text[256] = "";
	int fd = open("/proc/swaps", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		die("/proc/swaps");
	close(fd);
	return strchr(text, '/');
}

static int run_arm(struct world *w)
{
	struct meshhelper_batch batch;

	if (request(&w->a, MESHHELPER_IOC_ARM, 0, &w->pair, 1, &batch))
		return -errno;
	return w->pair.result;
}

TEST_F(failnth, arm)
{
	static const struct operation op = { .run = run_arm };

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

static void prepare_touch(struct world *w)
{
	place_alone(w, PAGES);
}

static int run_touch(struct world *w)
{
	*(volatile char *)page_at(&w->a, LONE) = 't';
	return 0;
}

static void done_touch(struct world *w)
{
	*model_at(w, LONE) = 't';
}

/* A page fault has nobody to tell that memory is out; it is tried again. */
TEST_F(failnth, first_touch)
{
	static const struct operation op = {
		.prepare = prepare_touch,
		.run = run_touch,
		.done = done_touch,
		.infallible = true,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

TEST_F(failnth, touch_from_swap)
{
	static const struct operation op = {
		.prepare = page_out,
		.run = run_touch,
		.done = done_touch,
		.infallible = true,
	};

	if (!has_swap())
		SKIP(return, "no swap");
	group_enter();
	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
	group_leave();
}

/* The kernel touches the page: a short or refused read is the only sign of a failure. */
static int run_read(struct world *w)
{
	int fds[2], result = 0;

	if (pipe(fds))
		return -errno;
	if (write(fds[1], "t", 1) != 1 || read(fds[0], page_at(&w->a, LONE), 1) != 1)
		result = -errno;
	close(fds[0]);
	close(fds[1]);
	return result;
}

TEST_F(failnth, touch_by_system_call)
{
	static const struct operation op = {
		.prepare = prepare_touch,
		.run = run_read,
		.done = done_touch,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

static int run_remove(struct world *w)
{
	return madvise(page_at(&w->a, SRC), 4 * PAGE, MADV_REMOVE) ? -errno : 0;
}

/* What shares pages with SRC and DST keeps them. */
static void done_remove(struct world *w)
{
	memset(model_at(w, SRC), 0, 4 * PAGE);
}

/* Whoever is short of memory can always give some back. */
TEST_F(failnth, remove)
{
	static const struct operation op = {
		.run = run_remove,
		.done = done_remove,
		.infallible = true,
	};
	static const struct operation groups = {
		.prepare = prepare_groups,
		.run = run_remove,
		.done = done_remove,
		.infallible = true,
		.meshed = -4,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
	fail_each(_metadata, &groups, MESHHELPER_MERGE_ZAP);
}

/* Splits the mapping: needs a second reference to the arena, and memory for the halves. */
static int run_split(struct world *w)
{
	char *page = page_at(&w->a, LONE);

	if (mprotect(page, PAGE, PROT_READ))
		return -errno;
	return mprotect(page, PAGE, PROT_READ | PROT_WRITE) ? -errno : 0;
}

TEST_F(failnth, split)
{
	static const struct operation op = {
		.prepare = prepare_groups,
		.run = run_split,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/* In the child. It may have no arena at all (SIGBUS), but never a wrong one. */
static void child_compares(struct world *w)
{
	prctl(PR_SET_DUMPABLE, 0);
	_exit(as_model(w) ? 0 : 1);
}

static void ready_fork(struct world *w)
{
	w->orphan = false;
}

/* A child that was told that it has no arena is a failure, one that saw a wrong one a bug. */
static int run_fork(struct world *w)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (!child)
		child_compares(w);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	w->orphan = WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS;
	if (w->orphan)
		return -ENOMEM;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EPROTO;
}

TEST_F_TIMEOUT(failnth, fork, 300)
{
	static const struct operation op = {
		.prepare = prepare_groups,
		.ready = ready_fork,
		.run = run_fork,
	};

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

FIXTURE(failnth_merge) {
};

FIXTURE_VARIANT(failnth_merge) {
	uint32_t mode;
};

FIXTURE_VARIANT_ADD(failnth_merge, zap) {
	.mode = MESHHELPER_MERGE_ZAP,
};

FIXTURE_VARIANT_ADD(failnth_merge, armed) {
	.mode = MESHHELPER_MERGE_ARMED,
};

FIXTURE_SETUP(failnth_merge)
{
	int fd = nth_open();

	if (fd < 0)
		SKIP(return, "kernel has no fail-nth");
	close(fd);
	if (!mode_supported(variant->mode))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	allow_failures();
}

FIXTURE_TEARDOWN(failnth_merge)
{
}

/* MERGE alone: ARM and the protection are not what is to fail here. */
static int run_merge(struct world *w)
{
	struct meshhelper_batch batch;

	if (request(&w->a, MESHHELPER_IOC_MERGE, w->a.mode, &w->pair, 1, &batch))
		return -errno;
	return w->pair.result;
}

/* Armed, every address that shares the source's pages is protected, and again if it has to be. */
static void ready_merge(struct world *w)
{
	w->pair.result = 0;
	arm(&w->a, &w->pair, 1);
	if (w->a.mode == MESHHELPER_MERGE_ARMED)
		protect(&w->a, page_at(&w->a, SRC_ALIAS), 2 * PAGE);
}

static void ready_merge_from_swap(struct world *w)
{
	ready_merge(w);
	page_out(w);
}

static void done_merge(struct world *w)
{
	model_merge(w, &w->pair);
}

static void done_merge_groups(struct world *w)
{
	model_merge(w, &w->pair);
	memcpy(model_at(w, DST_ALIAS), model_at(w, DST), 2 * PAGE);
	memcpy(model_at(w, SRC_ALIAS), model_at(w, DST), 2 * PAGE);
}

TEST_F(failnth_merge, lone)
{
	static const struct operation op = {
		.ready = ready_merge,
		.run = run_merge,
		.done = done_merge,
		.merges = 1,
		.meshed = 2,
	};

	fail_each(_metadata, &op, variant->mode);
}

TEST_F(failnth_merge, groups)
{
	static const struct operation op = {
		.prepare = prepare_groups,
		.ready = ready_merge,
		.run = run_merge,
		.done = done_merge_groups,
		.merges = 1,
		.meshed = 2,
	};

	fail_each(_metadata, &op, variant->mode);
}

TEST_F(failnth_merge, from_swap)
{
	static const struct operation op = {
		.ready = ready_merge_from_swap,
		.run = run_merge,
		.done = done_merge,
		.merges = 1,
		.meshed = 2,
	};

	if (!has_swap())
		SKIP(return, "no swap");
	group_enter();
	fail_each(_metadata, &op, variant->mode);
	group_leave();
}

TEST_HARNESS_MAIN
