/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Failure of each allocation and each user copy in turn: the n-th one of an operation fails, for
 * n = 1 and on until nothing is left to fail. After each the memory is compared with a model byte
 * by byte, counters have to balance, and the same operation has to succeed without a failure.
 *
 * Needs a kernel with CONFIG_FAULT_INJECTION, FAILSLAB, FAIL_PAGE_ALLOC and
 * FAULT_INJECTION_USERCOPY.
 */
#ifndef SELFTESTS_KMOD_FAILNTH_H
#define SELFTESTS_KMOD_FAILNTH_H

#include "arena.h"
#include "ring.h"

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define KNOBS		"/sys/kernel/debug/"
#define PAGES		16
#define SLOT_SIZE	2048
/* Far more than any operation takes: a loop that gets here does not end. */
#define MOST_FAILURES	10000U

/* Spans of two pages each, by the first. SRC's second page is never touched, nor is NEVER. */
#define SRC		0
#define DST		2
#define DST_ALIAS	4
#define LONE		6
#define SRC_ALIAS	8
#define NEVER		12

/* How requests are made, and who of those that take part sees the failure. */
enum way { BY_IOCTL, BY_RING_SUBMITTER, BY_RING_WORKER };

static enum way way;
static struct ring ring = { .fd = -1 };

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
 * @elsewhere: in place of @run: it is done in another process, where the n-th one fails; what
 *	it changes there is looked at there
 * @holds: whether all others that the memory concerns find it as it must be, or NULL
 * @finish: before the arena is closed, or NULL
 * @merges: by how much doing it changes merges_total
 * @meshed: same for pages_meshed
 * @copies: that changes also by what is copied up, be it in vain
 * @infallible: it is always done: needs no memory, or waits for it
 */
struct operation {
	void (*prepare)(struct world *w);
	void (*ready)(struct world *w);
	int (*run)(struct world *w);
	void (*done)(struct world *w);
	int (*elsewhere)(struct world *w, unsigned int n, bool *failed);
	bool (*holds)(struct world *w);
	void (*finish)(struct world *w);
	long long merges, meshed;
	bool copies, infallible;
};

struct counters {
	long long arenas, layers, snapshots, meshed, merges, aborts, fork_failures;
};

static inline struct counters read_counters(void)
{
	return (struct counters) {
		.arenas = counter("arenas"),
		.layers = counter("layers"),
		.snapshots = counter("snapshots"),
		.meshed = counter("pages_meshed"),
		.merges = counter("merges_total"),
		.aborts = counter("pairs_total") - counter("merges_total"),
		.fork_failures = counter("fork_failures_total"),
	};
}

static inline void write_file(const char *path, const char *text)
{
	if (!write_text(path, text))
		die(path);
}

/*
 * The kernel writes to the thread's rseq area on the way back to user space, after a fork for
 * example, and sends SIGSEGV when that fails. That is not what is tested here.
 */
static inline void rseq_off(void)
{
	void *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	if (__rseq_size &&
	    syscall(SYS_rseq, area, sizeof(struct rseq), RSEQ_FLAG_UNREGISTER, RSEQ_SIG))
		die("rseq");
}

/* Everything may fail, allocations that could wait for memory first of all, and quietly. */
static inline void allow_failures(void)
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

static inline struct ring *the_ring(void)
{
	unsigned int one_of_each_kind[2] = { 1, 1 };

	if (ring.fd >= 0)
		return &ring;
	ring = ring_open(4, 0);
	if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_IOWQ_MAX_WORKERS,
		    one_of_each_kind, 2))
		die("IORING_REGISTER_IOWQ_MAX_WORKERS");
	return &ring;
}

/* A request by the way of this test: 0 or a negative errno. */
static inline int ask(struct world *w, unsigned long cmd, const void *arg)
{
	int result;

	if (way == BY_IOCTL)
		return ioctl(w->a.fd, cmd, arg) ? -errno : 0;
	ring_command(&ring, w->a.fd, cmd, arg, 0);
	if (ring_try_submit(&ring) == 1)
		return ring_wait(&ring).res;
	/* The ring has it still. */
	result = -errno;
	ring_close(&ring);
	ring.fd = -1;
	return result;
}

static inline bool is_ring_worker(const char *tid)
{
	char path[64], name[16] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, name, sizeof(name) - 1) < 0)
		name[0] = 0;
	close(fd);
	return !strncmp(name, "iou-wrk", 7);
}

/* fail-nth of the thread that carries out the ring's commands; one is made if there is none. */
static inline int nth_open_worker(void)
{
	struct meshhelper_info info;
	int device = device_open(), fd = -1;
	char path[64] = "";
	struct dirent *entry;
	DIR *dir;

	if (ring_request(&ring, device, MESHHELPER_IOC_INFO, &info))
		die("MESHHELPER_IOC_INFO");
	close(device);
	dir = opendir("/proc/self/task");
	while (dir && (entry = readdir(dir)))
		if (is_ring_worker(entry->d_name))
			snprintf(path, sizeof(path), "/proc/self/task/%.16s/fail-nth",
				 entry->d_name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (!dir || fd < 0)
		die("the ring's worker");
	closedir(dir);
	return fd;
}

static inline int nth_open(void)
{
	return open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
}

static inline void nth_start(int fd, unsigned int n)
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
static inline bool nth_stop(int fd)
{
	char left[16] = "";
	bool failed = pread(fd, left, sizeof(left) - 1, 0) > 0 && !atoi(left);

	if (pwrite(fd, "0", 1, 0) != 1 && errno != EFAULT)
		die("fail-nth");
	return failed;
}

static inline char *model_at(struct world *w, size_t index)
{
	return w->model + index * PAGE;
}

static inline void fill(struct world *w, size_t index, size_t pages, char c)
{
	memset(page_at(&w->a, index), c, pages * PAGE);
	memset(model_at(w, index), c, pages * PAGE);
}

static inline bool as_model(struct world *w)
{
	return !memcmp(w->a.base, w->model, w->a.pages * PAGE);
}

static inline struct meshhelper_pair make_span_pair(struct world *w, size_t src, size_t dst,
					     unsigned int live)
{
	struct meshhelper_pair pair = make_pair(page_at(&w->a, src), page_at(&w->a, dst),
						SLOT_SIZE);

	pair.pages = 2;
	set_live(&pair, live);
	return pair;
}

/* Both spans of @pair show the target's contents with the live slots of the source. */
static inline void model_merge(struct world *w, const struct meshhelper_pair *pair)
{
	char *src = w->model + (pair->src - (uintptr_t)w->a.base);
	char *dst = w->model + (pair->dst - (uintptr_t)w->a.base);
	unsigned int slot;

	for (slot = 0; slot < 2 * PAGE / SLOT_SIZE; slot++)
		if (pair->live[0] >> slot & 1)
			memcpy(dst + slot * SLOT_SIZE, src + slot * SLOT_SIZE, SLOT_SIZE);
	memcpy(src, dst, 2 * PAGE);
}

static inline void must_merge(struct world *w, size_t src, size_t dst, unsigned int live)
{
	struct meshhelper_pair pair = make_span_pair(w, src, dst, live);

	errno = -merge_one(&w->a, &pair);
	if (errno)
		die("merge");
	model_merge(w, &pair);
}

/* What shares pages with SRC and DST: each has a group of two spans. */
static inline void prepare_groups(struct world *w)
{
	fill(w, DST_ALIAS, 2, 'D');
	fill(w, SRC_ALIAS, 2, 'S');
	must_merge(w, DST_ALIAS, DST, 2);
	must_merge(w, SRC_ALIAS, SRC, 1);
}

static inline void world_open(struct world *w, uint32_t mode)
{
	memset(w, 0, sizeof(*w));
	w->a = arena_open(PAGES, mode);
	fill(w, SRC, 1, 's');
	fill(w, DST, 2, 'd');
	fill(w, LONE, 2, 'l');
	w->pair = make_span_pair(w, SRC, DST, 0);
}

static inline int run(struct world *w, const struct operation *op, unsigned int n, bool *failed)
{
	int fd, result;

	if (op->elsewhere)
		return op->elsewhere(w, n, failed);
	if (way != BY_IOCTL)
		the_ring();
	fd = way == BY_RING_WORKER ? nth_open_worker() : nth_open();
	nth_start(fd, n);
	result = op->run(w);
	*failed = nth_stop(fd);
	close(fd);
	if (!result && op->done)
		op->done(w);
	return result;
}

/* One attempt, with the n-th failure, or none if n is 0. */
static inline int attempt(struct __test_metadata *_metadata, struct world *w,
		   const struct operation *op, unsigned int n, bool *failed)
{
	struct counters before, after;
	int result;

	if (op->ready)
		op->ready(w);
	before = read_counters();
	result = run(w, op, n, failed);
	after = read_counters();

	ASSERT_NE(-EPROTO, result) TH_LOG("failure %u", n);
	ASSERT_TRUE(as_model(w)) TH_LOG("failure %u, result %d", n, result);
	ASSERT_EQ(before.arenas, after.arenas) TH_LOG("failure %u, result %d", n, result);
	ASSERT_EQ(before.merges + (result ? 0 : op->merges), after.merges)
		TH_LOG("failure %u, result %d", n, result);
	if (!op->copies)
		ASSERT_EQ(before.meshed + (result ? 0 : op->meshed), after.meshed)
			TH_LOG("failure %u, result %d", n, result);
	ASSERT_EQ(before.aborts + (w->pair.result < 0 && op->merges), after.aborts)
		TH_LOG("failure %u, result %d", n, result);
	ASSERT_EQ(before.fork_failures + w->orphan, after.fork_failures)
		TH_LOG("failure %u, result %d", n, result);
	if (op->holds)
		ASSERT_TRUE(op->holds(w)) TH_LOG("failure %u, result %d", n, result);
	return result;
}

/* The loop that this file is about. */
static inline void fail_each(struct __test_metadata *_metadata, const struct operation *op,
			     uint32_t mode)
{
	static struct world w;
	struct counters before = read_counters(), after;
	bool failed = true, ignored;
	unsigned int n;
	int result;

	for (n = 0; failed; n++) {
		ASSERT_GT(MOST_FAILURES, n);
		world_open(&w, mode);
		if (op->prepare)
			op->prepare(&w);
		result = attempt(_metadata, &w, op, n + 1, &failed);
		ASSERT_TRUE(!result || !op->infallible) TH_LOG("failure %u", n + 1);
		if (result) {
			/* Nothing but the failure was in the way. */
			ASSERT_TRUE(failed) TH_LOG("result %d without a failure", result);
			result = attempt(_metadata, &w, op, 0, &ignored);
			ASSERT_EQ(0, result) TH_LOG("again, after failure %u", n + 1);
		}
		if (op->finish)
			op->finish(&w);
		arena_close(&w.a);
		after = read_counters();
		ASSERT_EQ(before.arenas, after.arenas) TH_LOG("failure %u", n + 1);
		ASSERT_EQ(before.layers, after.layers) TH_LOG("failure %u", n + 1);
		ASSERT_EQ(before.snapshots, after.snapshots) TH_LOG("failure %u", n + 1);
		ASSERT_EQ(before.meshed, after.meshed) TH_LOG("failure %u", n + 1);
	}
	TH_LOG("%u places to fail", n - 1);
	EXPECT_TRUE(n > 1 || op->infallible);
}



/* A page fault has nobody to tell that memory is out; a system call returns early. */
static inline int store_by_system_call(char *to)
{
	int fds[2], result = 0;

	if (pipe(fds))
		return -errno;
	if (write(fds[1], "t", 1) != 1 || read(fds[0], to, 1) != 1)
		result = -errno;
	close(fds[0]);
	close(fds[1]);
	return result;
}

static inline int run_remove(struct world *w)
{
	return madvise(page_at(&w->a, SRC), 4 * PAGE, MADV_REMOVE) ? -errno : 0;
}

/* What shares pages with SRC and DST keeps them. */
static inline void done_remove(struct world *w)
{
	memset(model_at(w, SRC), 0, 4 * PAGE);
}

/* Does the kernel fail on demand? Then what comes is to fail. */
static inline bool can_fail(void)
{
	int fd = nth_open();

	if (fd < 0)
		return false;
	close(fd);
	allow_failures();
	return true;
}

#endif /* SELFTESTS_KMOD_FAILNTH_H */
