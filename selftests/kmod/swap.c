// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * An arena twice as large as its memory cgroup may be: pages go to swap and come back,
 * while they are merged, removed, written to and shared by fork. Every byte is checked.
 */
#include "arena.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define PAGES	8192
#define SLOT	512
#define SLOTS	(PAGE / SLOT)
#define GROUP	"/sys/fs/cgroup/mesh-swap"

FIXTURE(swap) {
	struct arena a;
};

/* The test runs in a process of its own: the cgroup is left at its end. */
FIXTURE_SETUP(swap)
{
	if (!swap_is_on())
		SKIP(return, "no swap");
	write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(GROUP, 0755) && errno != EEXIST)
		SKIP(return, "no cgroup v2");
	/* Not memory.max: with a slow disk all may be under writeback, no reason to die. */
	ASSERT_TRUE(write_text(GROUP "/memory.high", "16M"));
	ASSERT_TRUE(write_text(GROUP "/cgroup.procs", "0"));
	self->a = arena_open(PAGES, MESHHELPER_MERGE_ZAP);
}

FIXTURE_TEARDOWN(swap)
{
	if (!self->a.base)
		return;
	arena_close(&self->a);
	write_text("/sys/fs/cgroup/cgroup.procs", "0");
	rmdir(GROUP);
}

static char content(size_t page, unsigned int slot)
{
	return 1 + (page * 7 + slot) % 120;
}

/* Even pages use even slots, odd pages odd ones. */
static void fill_page(struct arena *a, size_t page)
{
	unsigned int slot;

	for (slot = page % 2; slot < SLOTS; slot += 2)
		memset(page_at(a, page) + slot * SLOT, content(page, slot), SLOT);
}

static size_t count_wrong(struct arena *a)
{
	size_t page, i, wrong = 0;
	unsigned int slot;

	for (page = 0; page < PAGES; page++)
		for (slot = page % 2; slot < SLOTS; slot += 2)
			for (i = 0; i < SLOT; i += 64)
				if (page_at(a, page)[slot * SLOT + i] != content(page, slot))
					wrong++;
	return wrong;
}

TEST_F_TIMEOUT(swap, pages_come_back, 240)
{
	size_t page, merged = 0;
	int status;
	pid_t pid;

	for (page = 0; page < PAGES; page++)
		fill_page(&self->a, page);
	EXPECT_LT(4 << 20, read_number(GROUP "/memory.swap.current", NULL));
	EXPECT_EQ(0, count_wrong(&self->a));

	/* One pair in four. */
	for (page = 0; page < PAGES; page += 8) {
		struct meshhelper_pair pair = make_pair(page_at(&self->a, page + 1),
							page_at(&self->a, page), SLOT);

		pair.live[0] = 0xaa;
		merged += merge_one(&self->a, &pair) == 0;
	}
	EXPECT_LE(PAGES / 8 * 9 / 10, merged);
	EXPECT_EQ(0, count_wrong(&self->a));

	/* In swap or not, removed is removed, and the neighbours stay. */
	for (page = 4; page < PAGES; page += 64)
		ASSERT_EQ(0, madvise(page_at(&self->a, page), 2 * PAGE, MADV_REMOVE));
	for (page = 4; page < PAGES; page += 64) {
		ASSERT_EQ(0, page_at(&self->a, page)[0]);
		fill_page(&self->a, page);
		fill_page(&self->a, page + 1);
	}
	EXPECT_EQ(0, count_wrong(&self->a));

	/* A child sees the same, in memory or in swap, and so does one that writes to all. */
	pid = fork();
	if (!pid) {
		if (count_wrong(&self->a))
			_exit(1);
		for (page = 0; page < PAGES; page++)
			fill_page(&self->a, page);
		_exit(count_wrong(&self->a) ? 2 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_EQ(0, count_wrong(&self->a));
}

TEST_HARNESS_MAIN
