// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * The application meddles with its arena: protections, unmapping, moving, advice,
 * locking, and being killed at any moment.
 */
#include "arena.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define SLOT	512

FIXTURE(meddle) {
	struct arena a;
};

FIXTURE_SETUP(meddle)
{
	unsigned int i;

	self->a = arena_open(64, MESHHELPER_MERGE_ZAP);
	for (i = 0; i < 64; i++)
		memset(page_at(&self->a, i), 'A' + i % 26, PAGE);
}

FIXTURE_TEARDOWN(meddle)
{
	arena_close(&self->a);
}

static int merge_slot(struct arena *a, size_t src, size_t dst, unsigned int slot)
{
	struct meshhelper_pair pair = make_pair(page_at(a, src), page_at(a, dst), SLOT);

	set_live(&pair, slot);
	return merge_one(a, &pair);
}

static sigjmp_buf jump;

static void on_fault(int sig)
{
	siglongjmp(jump, sig);
}

/* The signal that a write to @addr raises, 0 if none. */
static int write_signal(char *addr)
{
	struct sigaction action = { .sa_handler = on_fault }, old_segv, old_bus;
	int sig;

	sigaction(SIGSEGV, &action, &old_segv);
	sigaction(SIGBUS, &action, &old_bus);
	sig = sigsetjmp(jump, 1);
	if (!sig)
		*(volatile char *)addr = 'w';
	sigaction(SIGSEGV, &old_segv, NULL);
	sigaction(SIGBUS, &old_bus, NULL);
	return sig;
}

/* A guard page in the heap still guards after its page was merged. */
TEST_F(meddle, protected_pages)
{
	ASSERT_EQ(0, mprotect(page_at(&self->a, 5), PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(page_at(&self->a, 7), PAGE, PROT_NONE));
	EXPECT_EQ(0, merge_slot(&self->a, 5, 10, 0));
	EXPECT_EQ(0, merge_slot(&self->a, 7, 11, 0));
	EXPECT_EQ(SIGSEGV, write_signal(page_at(&self->a, 5)));
	EXPECT_EQ(SIGSEGV, write_signal(page_at(&self->a, 7)));
	EXPECT_EQ('F', *page_at(&self->a, 5));
	ASSERT_EQ(0, mprotect(self->a.base, 64 * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, write_signal(page_at(&self->a, 7)));
	EXPECT_EQ('w', *page_at(&self->a, 11));
}

TEST_F(meddle, unmapped_part)
{
	ASSERT_EQ(0, merge_slot(&self->a, 20, 21, 0));
	ASSERT_EQ(0, merge_slot(&self->a, 30, 40, 0));
	/* The target goes, its alias stays; so does the rest of the arena. */
	ASSERT_EQ(0, munmap(page_at(&self->a, 21), 15 * PAGE));
	EXPECT_EQ('U', page_at(&self->a, 20)[0]);
	EXPECT_EQ('V', page_at(&self->a, 20)[SLOT]);
	EXPECT_EQ('E', page_at(&self->a, 40)[0]);
	EXPECT_EQ(-EFAULT, merge_slot(&self->a, 21, 40, 0));
	EXPECT_EQ(-EFAULT, merge_slot(&self->a, 41, 30, 0));
	EXPECT_EQ(0, merge_slot(&self->a, 41, 42, 0));
}

TEST_F(meddle, moved)
{
	char *to;

	ASSERT_EQ(0, merge_slot(&self->a, 1, 2, 0));
	to = mmap(NULL, 65 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, to);
	/* One address in 512 is refused, see huge.c. */
	if (mremap(self->a.base, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) {
		to += PAGE;
		ASSERT_EQ(to, mremap(self->a.base, 64 * PAGE, 64 * PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	}
	self->a.base = to;
	EXPECT_EQ('B', page_at(&self->a, 2)[0]);
	EXPECT_TRUE(same_frame(page_at(&self->a, 1), page_at(&self->a, 2)));
	EXPECT_EQ(0, merge_slot(&self->a, 3, 4, 0));
	EXPECT_EQ('D', page_at(&self->a, 4)[0]);
	EXPECT_EQ(0, madvise(page_at(&self->a, 10), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, page_at(&self->a, 10)[0]);
}

/* The same arena mapped twice: both mappings follow a merge. */
TEST_F(meddle, mapped_twice)
{
	char *twin = mremap(self->a.base, 0, 64 * PAGE, MREMAP_MAYMOVE);

	/* One address in 512 is refused, see huge.c. */
	if (twin == MAP_FAILED && mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
				       -1, 0) != MAP_FAILED)
		twin = mremap(self->a.base, 0, 64 * PAGE, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, twin);
	touch(twin + PAGE);
	EXPECT_EQ(0, merge_slot(&self->a, 1, 2, 0));
	EXPECT_TRUE(same_frame(twin + PAGE, page_at(&self->a, 2)));
	twin[PAGE] = 't';
	EXPECT_EQ('t', page_at(&self->a, 2)[0]);
	EXPECT_EQ(0, madvise(page_at(&self->a, 2), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, twin[2 * PAGE]);
	EXPECT_EQ('t', twin[PAGE]);
	munmap(twin, 64 * PAGE);
}

TEST_F(meddle, advice)
{
	static const int advice[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED,
		MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
		MADV_DONTFORK, MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP, MADV_MERGEABLE,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_WIPEONFORK, MADV_FREE,
	};
	unsigned char resident[64];
	unsigned int i;

	ASSERT_EQ(0, merge_slot(&self->a, 1, 2, 0));
	for (i = 0; i < sizeof(advice) / sizeof(*advice); i++) {
		/* Some do not apply to shared memory; none may harm. */
		madvise(self->a.base, 64 * PAGE, advice[i]);
		ASSERT_EQ('B', page_at(&self->a, 2)[0]) TH_LOG("after advice %d", advice[i]);
		ASSERT_EQ('C', page_at(&self->a, 1)[SLOT]);
		ASSERT_EQ('D', page_at(&self->a, 3)[PAGE - 1]);
	}
	EXPECT_EQ(0, mincore(self->a.base, 64 * PAGE, resident));
	EXPECT_EQ(0, msync(self->a.base, 64 * PAGE, MS_SYNC));
	EXPECT_EQ(0, merge_slot(&self->a, 3, 4, 0));
}

TEST_F(meddle, locked)
{
	ASSERT_EQ(0, mlock(self->a.base, 64 * PAGE));
	EXPECT_EQ(-EPERM, merge_slot(&self->a, 1, 2, 0));
	EXPECT_EQ('C', page_at(&self->a, 2)[0]);
	ASSERT_EQ(-1, madvise(page_at(&self->a, 3), PAGE, MADV_REMOVE));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, munlock(self->a.base, 64 * PAGE));
	EXPECT_EQ(0, merge_slot(&self->a, 1, 2, 0));
	EXPECT_EQ('B', page_at(&self->a, 2)[0]);
	EXPECT_EQ(0, madvise(page_at(&self->a, 3), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, page_at(&self->a, 3)[0]);
}

/* Merges and removes for ever. */
static void churn(struct arena *a, uint64_t state)
{
	for (;;) {
		uint64_t r = next_random(&state);
		size_t page = (r >> 8) % 60;
		struct meshhelper_pair pair = make_pair(page_at(a, page),
							page_at(a, (r >> 16) % 64), SLOT);

		merge(a, &pair, 1);
		page_at(a, (r >> 24) % 64)[r >> 52] = 1;
		if (r % 8 == 0)
			madvise(page_at(a, page), (r >> 32) % 4 * PAGE, MADV_REMOVE);
	}
}

TEST_F(meddle, killed_while_merging)
{
	long long arenas = counter("arenas"), meshed = counter("pages_meshed");
	unsigned int i;

	for (i = 0; i < 40; i++) {
		pid_t pid = fork();

		if (!pid)
			churn(&self->a, i + 1);
		usleep(3000 + i * 500);
		/* Now and then with a child of its own. */
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	}
	EXPECT_EQ(arenas, counter("arenas"));
	EXPECT_EQ(meshed, counter("pages_meshed"));
}

TEST_HARNESS_MAIN
