// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Memory is short: limits of memory cgroups hold, merging is felt in them, what is shared
 * by merging goes to swap and comes back, and pages may be moved. Every byte is checked.
 */
#include "peer.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "kselftest_harness.h"

#define SLOT	512
#define SLOTS	(PAGE / SLOT)
#define ROOT	"/sys/fs/cgroup/"
/* The name tells who looks for errors in the kernel's log that this one is none. */
#define KILLED	ROOT "mesh-oom-expected"
#define MB	(1L << 20)
#define PAGES(mb)	((size_t)(mb) * MB / PAGE)

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

/* The group of this test; a new one each time, for a killed process may be in the last. */
static char group[64];

static bool set_limit(const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return write_text(path, value);
}

static long long get_usage(const char *name, const char *key)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return read_number(path, key);
}

FIXTURE(pressure) {
	struct arena a;
};

/* The test runs in a process of its own, alone in a cgroup of its own. */
FIXTURE_SETUP(pressure)
{
	write_text(ROOT "cgroup.subtree_control", "+memory");
	snprintf(group, sizeof(group), ROOT "mesh-pressure-%d", getpid());
	if (mkdir(group, 0755))
		SKIP(return, "no cgroup v2");
	ASSERT_TRUE(set_limit("cgroup.procs", "0"));
	self->a = (struct arena) { 0 };
}

FIXTURE_TEARDOWN(pressure)
{
	if (self->a.base)
		arena_close(&self->a);
	write_text(ROOT "cgroup.procs", "0");
	rmdir(group);
}

static char content(size_t page, unsigned int slot)
{
	return 1 + (page % 1024 * 7 + slot) % 120;
}

/* Even pages use even slots, odd pages odd ones. */
static void fill_pages(struct arena *a, size_t page, size_t end)
{
	unsigned int slot;

	for (; page < end; page++)
		for (slot = page % 2; slot < SLOTS; slot += 2)
			memset(page_at(a, page) + slot * SLOT, content(page, slot), SLOT);
}

static void fill(struct arena *a)
{
	fill_pages(a, 0, a->pages);
}

static size_t count_wrong(struct arena *a)
{
	size_t page, i, wrong = 0;
	unsigned int slot;

	for (page = 0; page < a->pages; page++)
		for (slot = page % 2; slot < SLOTS; slot += 2)
			for (i = 0; i < SLOT; i += 64)
				wrong += page_at(a, page)[slot * SLOT + i] != content(page, slot);
	return wrong;
}

/* Each odd page onto the even one before; returns pairs merged. */
static size_t merge_neighbours(struct arena *a)
{
	size_t page, merged = 0;

	for (page = 0; page < a->pages; page += 2) {
		struct meshhelper_pair pair = make_pair(page_at(a, page + 1),
							page_at(a, page), SLOT);

		pair.live[0] = 0xaa;
		merged += merge_one(a, &pair) == 0;
	}
	return merged;
}

/* Touch every page by both of its addresses, as a program that uses them does. */
static void touch_all(struct arena *a)
{
	size_t page;

	for (page = 0; page < a->pages; page++)
		touch(page_at(a, page));
}

/* More than the limit, and no swap: the process is killed like any other. */
TEST_F(pressure, killed_at_limit)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, mkdir(KILLED, 0755));
	ASSERT_TRUE(write_text(KILLED "/memory.max", "64M"));
	write_text(KILLED "/memory.swap.max", "0");
	pid = fork();
	if (!pid) {
		write_text(KILLED "/cgroup.procs", "0");
		self->a = arena_open(PAGES(96), MESHHELPER_MERGE_ZAP);
		fill(&self->a);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	EXPECT_EQ(1, read_number(KILLED "/memory.events", "oom_kill"));
	rmdir(KILLED);
}

/* Without merging it would be killed: half of 96 MiB fits. */
TEST_F_TIMEOUT(pressure, merging_makes_room, 120)
{
	long long before, after;

	ASSERT_TRUE(set_limit("memory.max", "64M"));
	set_limit("memory.swap.max", "0");
	self->a = arena_open(PAGES(48), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	before = get_usage("memory.current", NULL);
	EXPECT_EQ(PAGES(24), merge_neighbours(&self->a));
	after = get_usage("memory.current", NULL);
	TH_LOG("memory.current %lld KiB, merged %lld KiB", before / 1024, after / 1024);
	EXPECT_LT(48 * MB, before);
	EXPECT_LT(22 * MB, before - after);
	EXPECT_EQ(0, count_wrong(&self->a));

	/* And once more as much. */
	self->a.base = mremap(self->a.base, 48 * MB, 72 * MB, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, self->a.base) TH_LOG("mremap: %s", strerror(errno));
	self->a.pages = PAGES(72);
	fill(&self->a);
	EXPECT_EQ(0, get_usage("memory.events", "oom_kill"));
	EXPECT_EQ(0, count_wrong(&self->a));
}

/* Ask for memory back until there is no more to have; bytes in swap afterwards. */
static long long reclaim_all(void)
{
	int tries;

	for (tries = 0; tries < 40; tries++)
		set_limit("memory.reclaim", "1M");
	return get_usage("memory.swap.current", NULL);
}

/* All of it is shared by merging. */
TEST_F_TIMEOUT(pressure, shared_pages_swap, 120)
{
	long long swapped, unmapped = counter("pages_unmapped_total");

	if (!swap_is_on())
		SKIP(return, "no swap");
	self->a = arena_open(PAGES(32), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	EXPECT_EQ(PAGES(16), merge_neighbours(&self->a));
	touch_all(&self->a);
	swapped = reclaim_all();
	TH_LOG("%lld KiB of 16384 in swap", swapped / 1024);
	EXPECT_LT(12 * MB, swapped);
	EXPECT_LT(PAGES(12), counter("pages_unmapped_total") - unmapped);
	EXPECT_EQ(0, count_wrong(&self->a));
}

/* The calling process goes into a group of its own, a sibling of the test's. */
static bool enter_group(const char *name)
{
	snprintf(group, sizeof(group), ROOT "mesh-pressure-%s", name);
	return (!mkdir(group, 0755) || errno == EEXIST) && set_limit("cgroup.procs", "0");
}

/*
 * What a child has written to since the fork, and what it has touched first, is its own: and so
 * is the pressure that its group is under. Half of it is shared by merging, too.
 */
static int child_of_its_own(struct arena *a)
{
	struct arena part = *a;
	long long swapped;

	/* A page first that is charged to the parent's group. */
	memset(a->base, 0, PAGE);
	if (!enter_group("child"))
		return 1;
	fill(a);
	part.pages = PAGES(8);
	if (merge_neighbours(&part) < PAGES(3))
		return 2;
	touch_all(a);
	swapped = reclaim_all();
	fprintf(stderr, "# child: %lld KiB of 20480 in swap\n", swapped / 1024);
	if (swapped < 15 * MB)
		return 3;
	return count_wrong(a) ? 4 : 0;
}

TEST_F_TIMEOUT(pressure, child_swaps, 120)
{
	pid_t pid;

	if (!swap_is_on())
		SKIP(return, "no swap");
	self->a = arena_open(PAGES(24), MESHHELPER_MERGE_ZAP);
	self->a.pages = PAGES(16);
	fill(&self->a);
	self->a.pages = PAGES(24);
	pid = fork();
	if (!pid)
		_exit(child_of_its_own(&self->a));
	EXPECT_EQ(0, exit_code(pid));
	rmdir(ROOT "mesh-pressure-child");
	self->a.pages = PAGES(16);
	EXPECT_EQ(0, count_wrong(&self->a));
}

/* A child that writes to more than its group may hold goes on, from swap. */
static int child_at_limit(struct arena *a)
{
	if (!enter_group("child") || !set_limit("memory.high", "8M") ||
	    !set_limit("memory.max", "16M"))
		return 1;
	fill(a);
	touch_all(a);
	return count_wrong(a) ? 2 : 0;
}

TEST_F_TIMEOUT(pressure, child_limit, 240)
{
	pid_t pid;

	if (!swap_is_on())
		SKIP(return, "no swap");
	self->a = arena_open(PAGES(32), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	pid = fork();
	if (!pid)
		_exit(child_at_limit(&self->a));
	EXPECT_EQ(0, exit_code(pid));
	rmdir(ROOT "mesh-pressure-child");
	EXPECT_EQ(0, count_wrong(&self->a));
}

/*
 * The parent writes, and the child keeps what was there: the copies are charged to the parent's
 * group, which needs the child's entries to go.
 */
TEST_F_TIMEOUT(pressure, copies_for_child_swap, 120)
{
	int written[2], checked[2];
	long long swapped;
	char c;
	pid_t pid;

	if (!swap_is_on())
		SKIP(return, "no swap");
	ASSERT_EQ(0, pipe(written));
	ASSERT_EQ(0, pipe(checked));
	self->a = arena_open(PAGES(16), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	pid = fork();
	if (!pid) {
		if (!enter_group("child") || read(written[0], &c, 1) != 1)
			_exit(1);
		touch_all(&self->a);
		if (write(checked[1], "t", 1) != 1 || read(written[0], &c, 1) != 1)
			_exit(2);
		_exit(count_wrong(&self->a) ? 3 : 0);
	}
	memset(self->a.base, 'p', 16 * MB);
	ASSERT_EQ(1, write(written[1], "w", 1));
	ASSERT_EQ(1, read(checked[0], &c, 1));
	swapped = reclaim_all();
	TH_LOG("%lld KiB of 32768 in swap", swapped / 1024);
	EXPECT_LT(26 * MB, swapped);
	ASSERT_EQ(1, write(written[1], "c", 1));
	EXPECT_EQ(0, exit_code(pid));
	rmdir(ROOT "mesh-pressure-child");
}

/*
 * Locked memory stays: shared by merging or not, in a child or next to one, at the same place,
 * whose pages go.
 */
TEST_F_TIMEOUT(pressure, locked_pages_stay, 120)
{
	struct arena locked;
	long long swapped;
	int ready[2], done[2];
	pid_t pid;
	char c;

	if (!swap_is_on())
		SKIP(return, "no swap");
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(done));
	self->a = arena_open(PAGES(16), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	locked = self->a;
	locked.pages = PAGES(4);
	/* The first half of what is locked is shared by merging. */
	self->a.pages = PAGES(2);
	EXPECT_EQ(PAGES(1), merge_neighbours(&self->a));
	self->a.pages = PAGES(16);
	pid = fork();
	if (!pid) {
		fill(&self->a);
		touch_all(&self->a);
		if (write(ready[1], "r", 1) != 1 || read(done[0], &c, 1) != 1)
			_exit(1);
		_exit(count_wrong(&self->a) ? 2 : 0);
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));
	ASSERT_EQ(0, mlock(locked.base, 4 * MB));
	/* A proportional size: pages that are mapped twice count half. */
	EXPECT_EQ(3 * 1024, smaps_kb(&self->a, "Locked:"));
	swapped = reclaim_all();
	TH_LOG("%lld KiB in swap, %ld KiB of what is locked mapped", swapped / 1024,
	       smaps_kb(&locked, "Rss:"));
	EXPECT_EQ(4 * 1024, smaps_kb(&locked, "Rss:"));
	EXPECT_EQ(0, smaps_kb(&locked, "Swap:"));
	EXPECT_LT(16 * MB, swapped);
	ASSERT_EQ(1, write(done[1], "d", 1));
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_EQ(0, count_wrong(&self->a));
}

/* From one group into another, which is made; the first is to be empty, and removed. */
static bool leave_group(const char *name)
{
	char left[sizeof(group)];

	strcpy(left, group);
	return enter_group(name) && !rmdir(left);
}

/* Into group after group, which is told to the module by the page faults of what is shared. */
static bool visit_groups(struct arena *a, unsigned int first, unsigned int end)
{
	char name[16];

	for (; first < end; first++) {
		snprintf(name, sizeof(name), "visited-%u", first);
		if (!leave_group(name) || madvise(a->base, a->pages * PAGE, MADV_DONTNEED))
			return false;
		touch_all(a);
	}
	return true;
}

static long long groups_dying(void)
{
	return read_number(ROOT "cgroup.stat", "nr_dying_descendants");
}

/* Groups that a process was in do not pile up. They die when the kernel gets round to it. */
TEST_F_TIMEOUT(pressure, groups_are_forgotten, 60)
{
	long long before = groups_dying();
	unsigned int n = 40;

	self->a = arena_open(2, MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	ASSERT_EQ(1, merge_neighbours(&self->a));
	ASSERT_TRUE(visit_groups(&self->a, 0, n));
	for (; n < 80 && groups_dying() - before > 5; n++) {
		usleep(100000);
		ASSERT_TRUE(visit_groups(&self->a, n, n + 1));
	}
	TH_LOG("%lld of %u groups are dying", groups_dying() - before, n);
	EXPECT_GE(5, groups_dying() - before);
	EXPECT_EQ(0, count_wrong(&self->a));
}

/*
 * Its pages were made in a group that is no more, and a process elsewhere has them mapped. They
 * still count for the group above.
 */
TEST_F_TIMEOUT(pressure, left_behind_swaps, 120)
{
	char upper[sizeof(group)], lower[sizeof(group)];
	long long swapped;
	unsigned int i;

	if (!swap_is_on())
		SKIP(return, "no swap");
	ASSERT_TRUE(leave_group("upper"));
	strcpy(upper, group);
	ASSERT_TRUE(enter_group("upper/lower"));
	strcpy(lower, group);
	strcpy(group, upper);
	ASSERT_TRUE(set_limit("cgroup.subtree_control", "+memory"));
	strcpy(group, lower);
	self->a = arena_open(PAGES(16), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	EXPECT_EQ(PAGES(8), merge_neighbours(&self->a));
	touch_all(&self->a);
	for (i = 0; i < 10; i++) {
		ASSERT_TRUE(visit_groups(&self->a, i, i + 1));
		usleep(100000);
	}
	strcpy(lower, group);
	strcpy(group, upper);
	swapped = reclaim_all();
	TH_LOG("%lld KiB of 8192 in swap", swapped / 1024);
	EXPECT_LT(6 * MB, swapped);
	EXPECT_EQ(0, count_wrong(&self->a));
	rmdir(upper);
	strcpy(group, lower);
}

/* What fork hides from a child, as it is not mapped there, it does not read from swap for that. */
TEST_F_TIMEOUT(pressure, gap_stays_in_swap, 120)
{
	long long before;
	char *gap;
	pid_t pid;

	if (!swap_is_on())
		SKIP(return, "no swap");
	self->a = arena_open(PAGES(8), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	gap = self->a.base + 4 * MB;
	ASSERT_EQ(0, madvise(gap, 4 * MB, MADV_DONTFORK));
	EXPECT_LT(7 * MB, reclaim_all());
	before = fdinfo_value(&self->a, "mesh-swapped");
	pid = fork();
	if (!pid) {
		if (mremap(self->a.base, 4 * MB, 8 * MB, 0) != self->a.base)
			_exit(1);
		if (!all_bytes(gap, 4 * MB, 0))
			_exit(2);
		memset(gap, 'c', 4 * MB);
		_exit(0);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_LE(before, fdinfo_value(&self->a, "mesh-swapped"));
	EXPECT_EQ(0, count_wrong(&self->a));
}

/* Many that do little: layers, and who has them, change all the time. */
static int short_lives(struct arena *a)
{
	unsigned int i;
	pid_t pid;

	for (i = 0; i < 100; i++) {
		pid = fork();
		if (!pid) {
			fill_pages(a, i, i + 8);
			_exit(0);
		}
		if (i % 4 == 0)
			fill_pages(a, i, i + 8);
		if (exit_code(pid))
			return 1;
	}
	return 0;
}

/* Writes to its part of what it got, forks on, and leaves; arenas of its own come and go, too. */
static int generation(struct arena *a, unsigned int depth)
{
	struct arena part = *a, own = arena_open(64, MESHHELPER_MERGE_ZAP);
	int failed = 0;
	pid_t pid;

	fill(&own);
	merge_neighbours(&own);
	part.base = page_at(a, depth * a->pages / 4);
	part.pages = a->pages / 4;
	memset(part.base, 'g', part.pages * PAGE);
	fill_pages(a, depth * a->pages / 4, (depth + 1) * a->pages / 4);
	merge_neighbours(&part);
	if (depth < 3) {
		pid = fork();
		if (!pid)
			_exit(generation(a, depth + 1));
		failed = exit_code(pid);
	}
	touch_all(a);
	failed |= short_lives(a) || count_wrong(a) || count_wrong(&own);
	arena_close(&own);
	return failed;
}

/* Pages are unmapped all the time, while processes come and go. */
TEST_F_TIMEOUT(pressure, generations, 120)
{
	long long arenas = counter("arenas"), layers = counter("layers"), unmapped;
	time_t start = time(NULL);
	pid_t reclaimer, child;
	unsigned int round;

	if (!swap_is_on())
		SKIP(return, "no swap");
	self->a = arena_open(PAGES(1), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	reclaimer = fork();
	while (!reclaimer) {
		set_limit("memory.reclaim", "1M");
		usleep(1000);
	}
	unmapped = counter("pages_unmapped_total");
	for (round = 0; round < 2 || time(NULL) < start + 40; round++) {
		child = fork();
		if (!child)
			_exit(generation(&self->a, 0));
		EXPECT_EQ(0, exit_code(child));
	}
	kill(reclaimer, SIGKILL);
	exit_code(reclaimer);
	TH_LOG("%lld pages unmapped in %u rounds", counter("pages_unmapped_total") - unmapped,
	       round);
	EXPECT_LT(1000, counter("pages_unmapped_total") - unmapped);
	EXPECT_EQ(0, count_wrong(&self->a));
	arena_close(&self->a);
	self->a.base = NULL;
	EXPECT_EQ(arenas, counter("arenas"));
	EXPECT_EQ(layers, counter("layers"));
}

/*
 * With half the memory that its shared pages take, a program grows and goes on, if slowly.
 * Between the limits it waits, for the disk that swap is on.
 */
TEST_F_TIMEOUT(pressure, shared_pages_limit, 240)
{
	struct arena part;
	size_t page;

	if (!swap_is_on())
		SKIP(return, "no swap");
	ASSERT_TRUE(set_limit("memory.high", "16M"));
	ASSERT_TRUE(set_limit("memory.max", "24M"));
	self->a = arena_open(PAGES(64), MESHHELPER_MERGE_ZAP);
	for (page = 0; page < self->a.pages; page += PAGES(4)) {
		part = self->a;
		part.base = page_at(&self->a, page);
		part.pages = PAGES(4);
		fill(&part);
		EXPECT_EQ(PAGES(2), merge_neighbours(&part));
	}
	touch_all(&self->a);
	TH_LOG("memory.current %lld KiB, in swap %lld KiB, oom_kill %lld",
	       get_usage("memory.current", NULL) / 1024,
	       get_usage("memory.swap.current", NULL) / 1024,
	       get_usage("memory.events", "oom_kill"));
	EXPECT_EQ(0, count_wrong(&self->a));
}

/* The whole machine is short, and the pages are in no limited cgroup. */
TEST_F_TIMEOUT(pressure, shared_pages_swap_globally, 240)
{
	long long swapped;
	int tries;

	if (!swap_is_on())
		SKIP(return, "no swap");
	self->a = arena_open(PAGES(32), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	EXPECT_EQ(PAGES(16), merge_neighbours(&self->a));
	touch_all(&self->a);
	for (tries = 0; tries < 20; tries++)
		write_text(ROOT "memory.reclaim", "16M");
	swapped = get_usage("memory.swap.current", NULL);
	TH_LOG("%lld KiB of 16384 in swap", swapped / 1024);
	EXPECT_LT(12 * MB, swapped);
	EXPECT_EQ(0, count_wrong(&self->a));
}

#define FAMILIES	200
#define FAMILY_PAGES	32UL

/* More families than the shrinker looks at in one go: each has its turn. */
TEST_F_TIMEOUT(pressure, many_families, 240)
{
	struct arena *a = calloc(FAMILIES, sizeof(*a));
	long long swapped, all = FAMILIES * FAMILY_PAGES / 2 * PAGE;
	int i, tries;

	if (!swap_is_on())
		SKIP(return, "no swap");
	ASSERT_NE(NULL, a);
	for (i = 0; i < FAMILIES; i++) {
		a[i] = arena_open(FAMILY_PAGES, MESHHELPER_MERGE_ZAP);
		fill(&a[i]);
		EXPECT_EQ(FAMILY_PAGES / 2, merge_neighbours(&a[i]));
		touch_all(&a[i]);
	}
	for (tries = 0; tries < 40; tries++)
		set_limit("memory.reclaim", "4M");
	swapped = get_usage("memory.swap.current", NULL);
	TH_LOG("%lld KiB of %lld in swap", swapped / 1024, all / 1024);
	EXPECT_LT(all / 4 * 3, swapped);
	for (i = 0; i < FAMILIES; i++) {
		EXPECT_EQ(0, count_wrong(&a[i]));
		arena_close(&a[i]);
	}
	free(a);
}

/* Moving one page: what is shared cannot be moved while it is mapped, and stays as it is. */
TEST_F(pressure, moved_page)
{
	struct meshhelper_pair pair;
	uint64_t frame;
	int err;

	self->a = arena_open(64, MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	frame = pfn_of(page_at(&self->a, 5));
	if (madvise(page_at(&self->a, 5), PAGE, MADV_SOFT_OFFLINE) && errno == EINVAL)
		SKIP(return, "kernel has no soft offlining");
	touch(page_at(&self->a, 5));
	EXPECT_NE(frame, pfn_of(page_at(&self->a, 5)));
	EXPECT_EQ(0, count_wrong(&self->a));

	pair = make_pair(page_at(&self->a, 7), page_at(&self->a, 6), SLOT);
	pair.live[0] = 0xaa;
	ASSERT_EQ(0, merge_one(&self->a, &pair));
	touch_all(&self->a);
	err = madvise(page_at(&self->a, 7), PAGE, MADV_SOFT_OFFLINE) ? errno : 0;
	TH_LOG("a shared page: %s", strerror(err));
	EXPECT_TRUE(same_frame(page_at(&self->a, 6), page_at(&self->a, 7)));
	EXPECT_EQ(0, count_wrong(&self->a));
}

static atomic_bool stop;
static atomic_ulong counted;
static char *holes;

static void *compact_forever(void *arg)
{
	while (!stop) {
		write_text("/proc/sys/vm/compact_memory", "1");
		usleep(1000);
	}
	return arg;
}

/*
 * Counts in the last used slot of each page, which merges move. Every time by a page fault,
 * which may have found a page that was moved before it got its lock.
 */
static void *write_forever(void *arg)
{
	unsigned long count, lost = 0;
	struct arena *a = arg;
	size_t page;

	for (count = 1; !stop; counted = count++) {
		madvise(a->base, a->pages * PAGE, MADV_DONTNEED);
		for (page = 1; page < a->pages; page += 2) {
			volatile unsigned long *word = (void *)(page_at(a, page) + PAGE - 8);

			lost += count > 1 && *word != count - 1;
			*word = count;
		}
	}
	return (void *)lost;
}

/* Holes in physical memory, for compaction to fill. */
static void make_holes(void)
{
	char *area = mmap(NULL, 32 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	size_t at;

	if (area == MAP_FAILED)
		die("mmap");
	madvise(area, 32 * MB, MADV_NOHUGEPAGE);
	memset(area, 'h', 32 * MB);
	for (at = 0; at < 32 * MB; at += 2 * PAGE)
		madvise(area + at, PAGE, MADV_DONTNEED);
	/* The other pages stay until the end, or the next call. */
	if (holes)
		munmap(holes, 32 * MB);
	holes = area;
}

TEST_F_TIMEOUT(pressure, compaction, 200)
{
	long long start = read_number("/proc/vmstat", "pgmigrate_success"), moved = 0;
	size_t page, merged = 0, wrong = 0;
	pthread_t compactor, writer;
	unsigned int round, slot;
	void *lost;

	self->a = arena_open(PAGES(16), MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	stop = false;
	ASSERT_EQ(0, pthread_create(&compactor, NULL, compact_forever, NULL));
	ASSERT_EQ(0, pthread_create(&writer, NULL, write_forever, &self->a));
	while (!counted)
		usleep(100);
	for (round = 0; round < 4 || (round < 100 && moved < 100); round++) {
		make_holes();
		for (page = round; round < 8 && page + 8 < self->a.pages; page += 8) {
			struct meshhelper_pair pair = make_pair(page_at(&self->a, page | 1),
								page_at(&self->a, page & ~1),
								SLOT);

			pair.live[0] = 0xaa;
			merged += merge_one(&self->a, &pair) == 0;
		}
		usleep(200000);
		moved = read_number("/proc/vmstat", "pgmigrate_success") - start;
	}
	stop = true;
	pthread_join(compactor, NULL);
	pthread_join(writer, &lost);
	TH_LOG("%zu merged, %lld pages moved", merged, moved);
	EXPECT_EQ(NULL, lost);
	EXPECT_LE(100, moved);
	EXPECT_LT(PAGES(16) / 8, merged);
	for (page = 0; page < self->a.pages; page++)
		for (slot = page % 2; slot < SLOTS - 1; slot += 2)
			wrong += page_at(&self->a, page)[slot * SLOT] != content(page, slot);
	EXPECT_EQ(0, wrong);
}

TEST_HARNESS_MAIN
