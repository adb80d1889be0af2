// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * What one process does to its arena, with each allocation and each user copy failing in turn: see
 * failnth.h. Requests go by ioctl, and through a ring, where either who submits or who carries them
 * out fails.
 */
#include "failnth.h"

#include <sys/stat.h>

#define CGROUPS		"/sys/fs/cgroup"
#define GROUP		CGROUPS "/mesh-failnth"

FIXTURE(failnth) {
};

FIXTURE_SETUP(failnth)
{
	if (!can_fail())
		SKIP(return, "kernel has no fail-nth");
}

FIXTURE_TEARDOWN(failnth)
{
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

/* It is tried again. */
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

static int run_read(struct world *w)
{
	return store_by_system_call(page_at(&w->a, LONE));
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

/*
 * Requests, each of them by all ways.
 */
FIXTURE(failnth_request) {
};

FIXTURE_VARIANT(failnth_request) {
	enum way way;
};

FIXTURE_VARIANT_ADD(failnth_request, ioctl) {
	.way = BY_IOCTL,
};

FIXTURE_VARIANT_ADD(failnth_request, submitter) {
	.way = BY_RING_SUBMITTER,
};

FIXTURE_VARIANT_ADD(failnth_request, worker) {
	.way = BY_RING_WORKER,
};

FIXTURE_SETUP(failnth_request)
{
	if (!can_fail())
		SKIP(return, "kernel has no fail-nth");
	way = variant->way;
}

FIXTURE_TEARDOWN(failnth_request)
{
}

static int run_info(struct world *w)
{
	struct meshhelper_info info = { 0 };
	int result = ask(w, MESHHELPER_IOC_INFO, &info);

	return result || info.abi_version == MESHHELPER_ABI_VERSION ? result : -EPROTO;
}

TEST_F(failnth_request, info)
{
	static const struct operation op = { .run = run_info };

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

/* With the pair of @w; the first error that there was. */
static int ask_batch(struct world *w, unsigned long cmd, uint32_t flags)
{
	struct meshhelper_batch batch = {
		.pairs = (uintptr_t)&w->pair,
		.nr_pairs = 1,
		.flags = flags,
	};

	return ask(w, cmd, &batch) ?: w->pair.result;
}

static int run_arm(struct world *w)
{
	return ask_batch(w, MESHHELPER_IOC_ARM, 0);
}

TEST_F(failnth_request, arm)
{
	static const struct operation op = { .run = run_arm };

	fail_each(_metadata, &op, MESHHELPER_MERGE_ZAP);
}

FIXTURE(failnth_merge) {
};

FIXTURE_VARIANT(failnth_merge) {
	uint32_t mode;
	enum way way;
};

FIXTURE_VARIANT_ADD(failnth_merge, zap) {
	.mode = MESHHELPER_MERGE_ZAP,
};

FIXTURE_VARIANT_ADD(failnth_merge, zap_submitter) {
	.mode = MESHHELPER_MERGE_ZAP,
	.way = BY_RING_SUBMITTER,
};

FIXTURE_VARIANT_ADD(failnth_merge, zap_worker) {
	.mode = MESHHELPER_MERGE_ZAP,
	.way = BY_RING_WORKER,
};

FIXTURE_VARIANT_ADD(failnth_merge, armed) {
	.mode = MESHHELPER_MERGE_ARMED,
};

FIXTURE_VARIANT_ADD(failnth_merge, armed_worker) {
	.mode = MESHHELPER_MERGE_ARMED,
	.way = BY_RING_WORKER,
};

FIXTURE_SETUP(failnth_merge)
{
	if (!mode_supported(variant->mode))
		SKIP(return, "kernel has no userfaultfd WP_ASYNC");
	if (!can_fail())
		SKIP(return, "kernel has no fail-nth");
	way = variant->way;
}

FIXTURE_TEARDOWN(failnth_merge)
{
}

/* MERGE alone: ARM and the protection are not what is to fail here. */
static int run_merge(struct world *w)
{
	return ask_batch(w, MESHHELPER_IOC_MERGE, w->a.mode);
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
