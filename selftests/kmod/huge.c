// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Huge pages stay out of arenas, however hard they are asked for: a huge mapping is
 * made of the page cache of the mapping's file and passes our fault handler by. It
 * would show a child its parent's pages, and spare slots instead of aliases.
 */
#include "arena.h"

#include <sys/wait.h>

#include "kselftest_harness.h"

#define HUGE		(512 * PAGE)
#define SHMEM_ENABLED	"/sys/kernel/mm/transparent_hugepage/shmem_enabled"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

FIXTURE(huge) {
	struct arena a;
	struct setting shmem_enabled;
};

/* At an address where a huge page would fit. */
FIXTURE_SETUP(huge)
{
	self->a = (struct arena) {
		.fd = device_open(),
		.uffd = -1,
		.pages = 1024,
		.mode = MESHHELPER_MERGE_ZAP,
	};
	self->a.base = mmap((void *)0x210000000000, 2 * HUGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED_NOREPLACE, self->a.fd, 0);
	ASSERT_NE(MAP_FAILED, self->a.base);
	memset(self->a.base, 'o', 2 * HUGE);
}

FIXTURE_TEARDOWN(huge)
{
	EXPECT_TRUE(restore_setting(&self->shmem_enabled));
	arena_close(&self->a);
}

static int merge_apart(struct arena *a)
{
	struct meshhelper_pair pair = make_pair(page_at(a, 5), page_at(a, 600), 64);

	set_live(&pair, 0);
	page_at(a, 5)[0] = 'a';
	page_at(a, 600)[64] = 'b';
	return merge_one(a, &pair);
}

static bool alias_intact(struct arena *a)
{
	return page_at(a, 5)[0] == 'a' && page_at(a, 5)[64] == 'b' &&
	       same_frame(page_at(a, 5), page_at(a, 600));
}

TEST_F(huge, collapse_over_alias)
{
	ASSERT_EQ(0, merge_apart(&self->a));
	madvise(self->a.base, 2 * HUGE, MADV_HUGEPAGE);
	EXPECT_NE(0, madvise(self->a.base, HUGE, MADV_COLLAPSE));
	EXPECT_TRUE(alias_intact(&self->a));
	EXPECT_EQ('o', page_at(&self->a, 6)[0]);
}

TEST_F(huge, collapse_in_child)
{
	int status, up[2], down[2];
	char c;
	pid_t pid;

	ASSERT_EQ(0, pipe(up));
	ASSERT_EQ(0, pipe(down));
	pid = fork();
	if (!pid) {
		if (read(down[0], &c, 1) != 1)
			_exit(1);
		madvise(self->a.base, HUGE, MADV_DONTNEED);
		madvise(self->a.base, HUGE, MADV_HUGEPAGE);
		madvise(self->a.base, HUGE, MADV_COLLAPSE);
		_exit(self->a.base[0] == 'o' ? 0 : 2);
	}
	memset(self->a.base, 'S', HUGE);
	ASSERT_EQ(1, write(down[1], "x", 1));
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
}

/* No arena can be moved to where a huge page would fit, either. */
TEST_F(huge, move)
{
	unsigned int refused = 0, i;
	char *room, *to;

	room = mmap(NULL, 4 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	for (i = 0; i < 512; i++) {
		to = mremap(self->a.base, 2 * HUGE, 2 * HUGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			    room + (i + 1) * PAGE);
		if (to == MAP_FAILED) {
			ASSERT_EQ(EINVAL, errno);
			refused++;
		} else {
			char *back = mremap(to, 2 * HUGE, 2 * HUGE,
					    MREMAP_MAYMOVE | MREMAP_FIXED, self->a.base);

			ASSERT_EQ(self->a.base, back);
		}
	}
	EXPECT_EQ(1, refused);
	EXPECT_EQ('o', page_at(&self->a, 1023)[PAGE - 1]);
}

static void set_shmem_enabled(struct setting *saved, const char *value)
{
	if (!save_setting(saved, SHMEM_ENABLED) || !write_text(SHMEM_ENABLED, value))
		die(SHMEM_ENABLED);
}

/* The setting for shared memory does not apply: arenas merge all the same. */
TEST_F(huge, shmem_enabled_always)
{
	struct arena b;
	int status, err;
	pid_t pid;

	set_shmem_enabled(&self->shmem_enabled, "always");
	b = arena_open(1024, MESHHELPER_MERGE_ZAP);
	memset(b.base, 'o', 2 * HUGE);
	err = merge_apart(&b);
	pid = fork();
	if (!pid)
		_exit(alias_intact(&b) ? 0 : 1);
	waitpid(pid, &status, 0);
	EXPECT_TRUE(restore_setting(&self->shmem_enabled));
	EXPECT_EQ(0, err);
	EXPECT_EQ(0, status);
	EXPECT_TRUE(alias_intact(&b));
	arena_close(&b);
}

/* In a child that has its own copy of every second page, of which none is mapped any more. */
static bool copies_intact(struct arena *a)
{
	unsigned int i;

	for (i = 0; i < 1024; i += 2)
		page_at(a, i)[1] = 'c';
	madvise(a->base, 2 * HUGE, MADV_DONTNEED);
	for (i = 0; i < 1024; i++)
		if (page_at(a, i)[0] != 'o' || page_at(a, i)[1] != (i % 2 ? 'o' : 'c'))
			return false;
	return true;
}

/* Huge pages in every tmpfs, a setting for testing: they do not merge, but nothing gets lost. */
TEST_F(huge, shmem_enabled_force)
{
	struct arena b;
	int status;
	pid_t pid;

	set_shmem_enabled(&self->shmem_enabled, "force");
	b = arena_open(1024, MESHHELPER_MERGE_ZAP);
	memset(b.base, 'o', 2 * HUGE);
	pid = fork();
	if (!pid)
		_exit(copies_intact(&b) ? 0 : 1);
	waitpid(pid, &status, 0);
	EXPECT_TRUE(restore_setting(&self->shmem_enabled));
	EXPECT_EQ(0, status);
	memset(b.base, 'p', 2 * HUGE);
	EXPECT_EQ('p', page_at(&b, 1023)[PAGE - 1]);
	arena_close(&b);
}

TEST_HARNESS_MAIN
