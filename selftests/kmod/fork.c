// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fork: parent and child each keep what they had, whoever writes, merges or removes
 * afterwards, and however the child was made.
 */
#include "peer.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "kselftest_harness.h"

#define SLOT	512

FIXTURE(fork) {
	struct arena a;
	int up[2];
	int down[2];
};

/*
 * Pages that were made a moment ago wait on a list of their CPU, and fork takes them for
 * pages in use. madvise() empties the list, whatever it is asked for.
 */
static void fill(struct arena *a)
{
	cpu_set_t all, here;
	char *any = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int i;

	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	if (any == MAP_FAILED || sched_getaffinity(0, sizeof(all), &all) ||
	    sched_setaffinity(0, sizeof(here), &here))
		die("staying on a CPU");
	for (i = 0; i < 32; i++)
		memset(page_at(a, i), 'A' + i, PAGE);
	if (madvise(any, PAGE, MADV_COLD) || sched_setaffinity(0, sizeof(all), &all) ||
	    munmap(any, PAGE))
		die("MADV_COLD");
}

FIXTURE_SETUP(fork)
{
	struct meshhelper_pair pair;

	self->a = arena_open(64, MESHHELPER_MERGE_ZAP);
	fill(&self->a);
	/* Page 1 is an alias of page 0: slot 1 is 'B', the others 'A'. */
	pair = make_pair(page_at(&self->a, 1), page_at(&self->a, 0), SLOT);
	set_live(&pair, 1);
	ASSERT_EQ(0, merge_one(&self->a, &pair));
	ASSERT_EQ(0, pipe(self->up));
	ASSERT_EQ(0, pipe(self->down));
}

FIXTURE_TEARDOWN(fork)
{
	arena_close(&self->a);
}

/* Is all as FIXTURE_SETUP left it? */
static bool pristine(struct arena *a)
{
	size_t i, j;

	for (i = 2; i < 32; i++)
		for (j = 0; j < PAGE; j++)
			if (page_at(a, i)[j] != (char)('A' + i))
				return false;
	for (i = 0; i < 2; i++)
		for (j = 0; j < PAGE; j++)
			if (page_at(a, i)[j] != (j / SLOT == 1 ? 'B' : 'A'))
				return false;
	for (i = 32; i < 64; i++)
		if (page_at(a, i)[0])
			return false;
	return true;
}

static void scribble(struct arena *a)
{
	struct meshhelper_pair pair = make_pair(page_at(a, 5), page_at(a, 6), SLOT);

	memset(page_at(a, 0), '!', 4 * PAGE);
	memset(page_at(a, 5), '!', 2 * PAGE);
	if (merge_one(a, &pair))
		die("merge");
	if (madvise(page_at(a, 8), 8 * PAGE, MADV_REMOVE))
		die("MADV_REMOVE");
	memset(page_at(a, 30), '?', 10 * PAGE);
}

/* The child looks only after the parent has changed everything. */
TEST_F(fork, child_sees_snapshot)
{
	pid_t pid = fork();

	if (!pid) {
		hear(self->down[0]);
		_exit(pristine(&self->a) ? 0 : 1);
	}
	scribble(&self->a);
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
}

TEST_F(fork, parent_keeps_its_pages)
{
	pid_t pid = fork();

	if (!pid) {
		scribble(&self->a);
		_exit(0);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(pristine(&self->a));
	EXPECT_TRUE(same_frame(page_at(&self->a, 0), page_at(&self->a, 1)));
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

/* For guard pages fork copies page tables, with entries of ours if it finds any. */
TEST_F(fork, guard_pages)
{
	char *guard = page_at(&self->a, 40);
	pid_t pid;

	if (madvise(guard, PAGE, MADV_GUARD_INSTALL))
		SKIP(return, "no guard pages in mappings of files");
	pid = fork();
	if (!pid) {
		hear(self->down[0]);
		if (!pristine(&self->a))
			_exit(1);
		scribble(&self->a);
		/* The guard is there, too. */
		signal(SIGSEGV, SIG_DFL);
		*(volatile char *)guard = 'x';
		_exit(2);
	}
	scribble(&self->a);
	tell(self->down[1]);
	EXPECT_EQ(128 + SIGSEGV, exit_code(pid));
	EXPECT_EQ(0, madvise(guard, PAGE, MADV_GUARD_REMOVE));
}

static int in_child(bool (*check)(struct arena *a), struct arena *a)
{
	pid_t pid = fork();

	if (!pid)
		_exit(check(a) ? 0 : 1);
	return exit_code(pid);
}

static bool frames_are_parents(struct arena *a)
{
	static uint64_t frames[64];
	pid_t pid;
	int i;

	for (i = 0; i < 32; i++) {
		touch(page_at(a, i));
		frames[i] = pfn_of(page_at(a, i));
	}
	pid = fork();
	if (!pid) {
		for (i = 0; i < 32; i++) {
			touch(page_at(a, i));
			if (!frames[i] || pfn_of(page_at(a, i)) != frames[i])
				_exit(1);
		}
		_exit(0);
	}
	return !exit_code(pid);
}

/* Nobody writes, nothing is copied. */
TEST_F(fork, shares_pages)
{
	long long copies = counter("copy_ups_total");

	EXPECT_TRUE(frames_are_parents(&self->a));
	EXPECT_EQ(0, in_child(frames_are_parents, &self->a));
	EXPECT_EQ(copies, counter("copy_ups_total"));
	EXPECT_TRUE(pristine(&self->a));
}

/* The parent reads on without a page fault, and so it does while the child writes. */
TEST_F(fork, parent_keeps_page_tables)
{
	pid_t pid = fork();

	if (!pid) {
		memset(page_at(&self->a, 4), '!', 4 * PAGE);
		_exit(0);
	}
	EXPECT_NE(0, pfn_of(page_at(&self->a, 4)));
	EXPECT_NE(0, pfn_of(page_at(&self->a, 8)));
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_NE(0, pfn_of(page_at(&self->a, 4)));
	EXPECT_NE(0, pfn_of(page_at(&self->a, 8)));
}

/* What mprotect() makes writable again is not writable without a copy. */
TEST_F(fork, protected_meanwhile)
{
	pid_t pid = fork();

	if (!pid) {
		hear(self->down[0]);
		_exit(pristine(&self->a) ? 0 : 1);
	}
	ASSERT_EQ(0, mprotect(self->a.base, 64 * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->a.base, 64 * PAGE, PROT_READ | PROT_WRITE));
	memset(self->a.base, '!', 64 * PAGE);
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
}

/* A second mapping of the same pages sees what is written through the first. */
TEST_F(fork, mapped_twice)
{
	char *twin = mremap(page_at(&self->a, 4), 0, PAGE, MREMAP_MAYMOVE);
	pid_t pid;

	if (twin == MAP_FAILED)
		SKIP(return, "no second mapping here");
	pid = fork();
	if (!pid) {
		touch(twin);
		touch(page_at(&self->a, 4));
		page_at(&self->a, 4)[1] = '!';
		if (twin[1] != '!' || !same_frame(twin, page_at(&self->a, 4)))
			_exit(1);
		twin[2] = '?';
		_exit(page_at(&self->a, 4)[2] == '?' ? 0 : 2);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_EQ('E', twin[1]);
	munmap(twin, PAGE);
}

/* One copy for each page that is written to, whoever writes first, and an alias is one. */
TEST_F(fork, copies_once)
{
	uint64_t frame = pfn_of(page_at(&self->a, 2));
	long long copies = counter("copy_ups_total");
	pid_t pid = fork();

	if (!pid) {
		hear(self->down[0]);
		page_at(&self->a, 0)[0] = '!';
		if (page_at(&self->a, 1)[0] != '!' ||
		    !same_frame(page_at(&self->a, 0), page_at(&self->a, 1)))
			_exit(1);
		page_at(&self->a, 2)[0] = '!';
		_exit(page_at(&self->a, 2)[1] == 'C' ? 0 : 2);
	}
	page_at(&self->a, 2)[0] = '?';
	/* The parent's pages stay where they are. */
	EXPECT_EQ(frame, pfn_of(page_at(&self->a, 2)));
	EXPECT_EQ(copies + 1, counter("copy_ups_total"));
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_EQ(copies + 2, counter("copy_ups_total"));
	EXPECT_EQ('A', *page_at(&self->a, 0));
	page_at(&self->a, 3)[0] = '?';
	EXPECT_EQ(copies + 2, counter("copy_ups_total"));
}

/*
 * A child maps what is around the page that it reads, and still does not see
 * what becomes of that in its parent.
 */
TEST_F(fork, reads_around)
{
	unsigned int i, mapped = 0;
	pid_t pid = fork();

	if (!pid) {
		touch(page_at(&self->a, 8));
		for (i = 0; i < 32; i++)
			mapped += !!pfn_of(page_at(&self->a, i));
		tell(self->up[1]);
		hear(self->down[0]);
		if (!pristine(&self->a))
			_exit(1);
		_exit(mapped > 4 ? 0 : 2);
	}
	hear(self->up[0]);
	memset(self->a.base, '!', 32 * PAGE);
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
}

/* Pages 2 to 15 become aliases of 31 to 18: slot 1 is their own. */
static void make_aliases(struct arena *a)
{
	struct meshhelper_pair pair;
	unsigned int i;

	for (i = 2; i < 16; i++) {
		pair = make_pair(page_at(a, i), page_at(a, 33 - i), SLOT);
		set_live(&pair, 1);
		if (merge_one(a, &pair))
			die("merge");
	}
}

static bool aliases_intact(struct arena *a)
{
	unsigned int i, at;

	for (i = 2; i < 16; i++)
		for (at = 0; at < PAGE; at++)
			if (page_at(a, i)[at] != 'A' + (char)(at / SLOT == 1 ? i : 33 - i))
				return false;
	return true;
}

/* The same for aliases, whose slots are anywhere. */
TEST_F(fork, reads_around_aliases)
{
	unsigned int i, mapped = 0;
	long long faults;
	pid_t pid;

	make_aliases(&self->a);
	pid = fork();
	if (!pid) {
		faults = counter("faults_total");
		touch(page_at(&self->a, 8));
		for (i = 2; i < 16; i++)
			mapped += !!pfn_of(page_at(&self->a, i));
		for (i = 2; i < 16; i++)
			touch(page_at(&self->a, i));
		faults = counter("faults_total") - faults;
		tell(self->up[1]);
		hear(self->down[0]);
		if (!aliases_intact(&self->a))
			_exit(1);
		if (mapped <= 4)
			_exit(2);
		_exit(faults <= 3 ? 0 : 3);
	}
	hear(self->up[0]);
	memset(self->a.base, '!', 32 * PAGE);
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
}

/* The first slot of all is shown where its index is not mapped. */
TEST_F(fork, reads_around_first_slot)
{
	pid_t pid = fork();

	if (!pid) {
		if (munmap(self->a.base, PAGE))
			_exit(1);
		touch(page_at(&self->a, 1));
		if (page_at(&self->a, 1)[SLOT] != 'B' || page_at(&self->a, 1)[0] != 'A')
			_exit(2);
		_exit(pfn_of(self->a.base) ? 3 : 0);
	}
	EXPECT_EQ(0, exit_code(pid));
}

/*
 * A write to one of a group gives a child page table entries for all of it. The process itself
 * may have page faults that have nothing to do with it.
 */
TEST_F(fork, writes_once)
{
	pid_t pid = fork();
	long faults;

	if (!pid) {
		page_at(&self->a, 0)[0] = '!';
		faults = counter("faults_total");
		page_at(&self->a, 1)[1] = '?';
		faults = counter("faults_total") - faults;
		if (page_at(&self->a, 1)[0] != '!' || page_at(&self->a, 0)[1] != '?')
			_exit(1);
		_exit(faults ? 2 : 0);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(pristine(&self->a));
}

/* The first write to what nobody has touched yet leaves nothing to be copied. */
TEST_F(fork, holes_are_not_copied)
{
	long long copies;
	pid_t pid;

	page_at(&self->a, 63)[0] = 'x';
	pid = fork();
	if (!pid) {
		hear(self->down[0]);
		_exit(page_at(&self->a, 40)[0] ? 1 : 0);
	}
	copies = counter("copy_ups_total");
	page_at(&self->a, 40)[0] = '!';
	EXPECT_EQ(copies, counter("copy_ups_total"));
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
}

/* What relatives share is not merged: that would cost memory. */
TEST_F(fork, shared_is_not_merged)
{
	struct meshhelper_pair pair = make_pair(page_at(&self->a, 2), page_at(&self->a, 1), SLOT);
	long long aborts = counter("merge_aborts_shared_total");
	pid_t pid = fork();

	set_live(&pair, 2);
	if (!pid) {
		if (merge_one(&self->a, &pair) != -EUSERS || !pristine(&self->a))
			_exit(1);
		tell(self->up[1]);
		hear(self->down[0]);
		_exit(pristine(&self->a) ? 0 : 2);
	}
	hear(self->up[0]);
	EXPECT_EQ(-EUSERS, merge_one(&self->a, &pair));
	EXPECT_TRUE(pristine(&self->a));
	EXPECT_EQ(aborts + 2, counter("merge_aborts_shared_total"));
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_EQ(0, merge_one(&self->a, &pair));
	EXPECT_TRUE(same_frame(page_at(&self->a, 2), page_at(&self->a, 0)));
}

/* Aliases survive on both sides; the child merges on what it has written to. */
TEST_F(fork, child_meshes)
{
	pid_t pid = fork();

	if (!pid) {
		struct meshhelper_pair pair;

		if (!same_frame(page_at(&self->a, 0), page_at(&self->a, 1)))
			_exit(1);
		page_at(&self->a, 1)[7 * SLOT] = 'x';
		page_at(&self->a, 2)[7 * SLOT] = 'x';
		pair = make_pair(page_at(&self->a, 2), page_at(&self->a, 1), SLOT);
		set_live(&pair, 2);
		if (merge_one(&self->a, &pair))
			_exit(3);
		if (page_at(&self->a, 0)[0] != 'A' || page_at(&self->a, 1)[SLOT] != 'B' ||
		    page_at(&self->a, 2)[2 * SLOT] != 'C')
			_exit(4);
		/* Leaving a group works that was copied. */
		if (madvise(page_at(&self->a, 0), PAGE, MADV_REMOVE))
			_exit(5);
		if (page_at(&self->a, 0)[0] || page_at(&self->a, 1)[SLOT] != 'B' ||
		    page_at(&self->a, 2)[2 * SLOT] != 'C')
			_exit(6);
		_exit(0);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(pristine(&self->a));
}

/* Of an inherited alias, one side is removed: in the child, then in the parent. */
TEST_F(fork, remove_alias)
{
	pid_t pid = fork();

	if (!pid) {
		if (madvise(page_at(&self->a, 0), PAGE, MADV_REMOVE))
			_exit(1);
		if (page_at(&self->a, 0)[0] || page_at(&self->a, 1)[SLOT] != 'B')
			_exit(2);
		tell(self->up[1]);
		hear(self->down[0]);
		if (page_at(&self->a, 0)[0] || page_at(&self->a, 1)[SLOT] != 'B')
			_exit(3);
		page_at(&self->a, 0)[0] = 'c';
		_exit(page_at(&self->a, 1)[0] == 'A' ? 0 : 4);
	}
	hear(self->up[0]);
	EXPECT_TRUE(pristine(&self->a));
	EXPECT_EQ(0, madvise(page_at(&self->a, 1), PAGE, MADV_REMOVE));
	EXPECT_EQ(0, page_at(&self->a, 1)[SLOT]);
	memset(page_at(&self->a, 0), '!', PAGE);
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_EQ('!', page_at(&self->a, 0)[0]);
	EXPECT_EQ(0, page_at(&self->a, 1)[0]);
}

/* Memory that either gets after the fork is its own, and starts as zeroes. */
TEST_F(fork, untouched_memory)
{
	pid_t pid = fork();

	if (!pid) {
		hear(self->down[0]);
		if (page_at(&self->a, 40)[0] || page_at(&self->a, 41)[0])
			_exit(1);
		page_at(&self->a, 40)[0] = 'c';
		page_at(&self->a, 42)[0] = 'c';
		tell(self->up[1]);
		hear(self->down[0]);
		_exit(page_at(&self->a, 40)[0] == 'c' && page_at(&self->a, 42)[0] == 'c' ? 0 : 2);
	}
	page_at(&self->a, 40)[0] = 'p';
	tell(self->down[1]);
	hear(self->up[0]);
	EXPECT_EQ('p', page_at(&self->a, 40)[0]);
	EXPECT_EQ(0, page_at(&self->a, 42)[0]);
	page_at(&self->a, 42)[0] = 'p';
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
}

TEST_F(fork, raw_clone)
{
	pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid) {
		hear(self->down[0]);
		if (!pristine(&self->a))
			_exit(1);
		scribble(&self->a);
		tell(self->up[1]);
		_exit(0);
	}
	scribble(&self->a);
	memset(page_at(&self->a, 20), 'p', PAGE);
	tell(self->down[1]);
	hear(self->up[0]);
	EXPECT_EQ('p', *page_at(&self->a, 20));
	EXPECT_EQ(0, exit_code(pid));
}

/*
 * Each generation exits when it has a child that is about to write. The first waits on a
 * pipe for the last, which reports. Neither layers nor pages may pile up.
 */
static int generation(struct arena *a, unsigned int number)
{
	char *page = page_at(a, 8 + number % 16);
	long long resident;
	int tries;

	if (page[number % PAGE] != (char)('A' + 8 + number % 16) && number < 16)
		return 1;
	if (number && *(volatile unsigned int *)page_at(a, 40) != number - 1)
		return 2;
	*(volatile unsigned int *)page_at(a, 40) = number;
	page[0] = number;
	if (!same_frame(page_at(a, 0), page_at(a, 1)))
		return 3;
	if (number % 100)
		return 0;
	/* Generations before may be about to exit still. */
	for (tries = 0; tries < 500 && counter("layers") > 4; tries++)
		usleep(10000);
	resident = fdinfo_value(a, "mesh-resident");
	return tries == 500 || resident > 2 * 64 * 4 ? 4 : 0;
}

static void chain_of_forks(struct arena *a, unsigned int generations, int done)
{
	unsigned int i;
	int code = 0;

	for (i = 0; i < generations && !code; i++) {
		pid_t pid = fork();

		if (pid < 0)
			code = 9;
		if (pid)
			break;
		code = generation(a, i);
	}
	/* Only the last one, or one that has failed, has anything to say. */
	if (i == generations || code)
		if (write(done, &code, sizeof(code)) != sizeof(code))
			die("write");
	_exit(0);
}

TEST_F_TIMEOUT(fork, chain, 240)
{
	long long arenas = counter("arenas"), layers = counter("layers");
	int code = -1;
	pid_t pid = fork();

	if (!pid)
		chain_of_forks(&self->a, scaled(10000), self->up[1]);
	close(self->up[1]);
	EXPECT_EQ(sizeof(code), read(self->up[0], &code, sizeof(code)));
	EXPECT_EQ(0, code);
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(pristine(&self->a));
	/* The last of them may be on its way still. */
	for (code = 0; code < 500 && counter("layers") > layers; code++)
		usleep(10000);
	EXPECT_EQ(arenas, counter("arenas"));
	EXPECT_EQ(layers, counter("layers"));
}

/* A chain of processes that all live on; each has changed the page of its number. */
static int nest(struct arena *a, unsigned int depth)
{
	unsigned int i;
	pid_t pid;

	memset(page_at(a, 32 + depth), 'a' + depth, PAGE);
	page_at(a, 2)[depth] = 'a' + depth;
	if (depth < 20) {
		pid = fork();
		if (!pid)
			_exit(nest(a, depth + 1));
		memset(page_at(a, 3), 'a' + depth, PAGE);
		if (exit_code(pid))
			return 1;
	}
	for (i = 0; i <= 20; i++)
		if (page_at(a, 2)[i] != (char)(i <= depth ? 'a' + i : 'C') ||
		    page_at(a, 32 + i)[PAGE - 1] != (char)(i <= depth ? 'a' + i : 0))
			return 2;
	return page_at(a, 3)[1] == (char)(depth < 20 ? 'a' + depth : 'D') ? 0 : 3;
}

TEST_F(fork, nested)
{
	pid_t pid = fork();

	if (!pid)
		_exit(nest(&self->a, 0));
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(pristine(&self->a));
}

#define SIBLINGS	3

/* Child @n was forked when page 4 was 'n' and pages 5 to 4 + n had been written to. */
static bool sibling_sees(struct arena *a, unsigned int n)
{
	unsigned int i;

	if (page_at(a, 4)[9] != (char)('0' + n))
		return false;
	for (i = 0; i < 8; i++)
		if (page_at(a, 5 + i)[9] != (char)(i < n ? '+' : 'F' + i))
			return false;
	return page_at(a, 0)[0] == 'A' && page_at(a, 1)[SLOT] == 'B';
}

static int sibling(struct arena *a, unsigned int n, int go)
{
	hear(go);
	if (!sibling_sees(a, n))
		return 1;
	page_at(a, 4)[0] = 'w';
	page_at(a, 0)[PAGE - 1] = 'w';
	return sibling_sees(a, n) && page_at(a, 1)[PAGE - 1] == 'w' ? 0 : 2;
}

/* Siblings forked between writes of the parent each keep their moment, in any order. */
TEST_F(fork, siblings)
{
	static const unsigned int orders[][SIBLINGS] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
	};
	long long layers = counter("layers");
	unsigned int order, i;

	for (order = 0; order < 6; order++) {
		int go[SIBLINGS][2];
		pid_t pid[SIBLINGS];

		for (i = 0; i < 8; i++)
			memset(page_at(&self->a, 5 + i), 'F' + i, PAGE);
		for (i = 0; i < SIBLINGS; i++) {
			memset(page_at(&self->a, 4), '0' + i, PAGE);
			ASSERT_EQ(0, pipe(go[i]));
			pid[i] = fork();
			if (!pid[i])
				_exit(sibling(&self->a, i, go[i][0]));
			memset(page_at(&self->a, 5 + i), '+', PAGE);
		}
		memset(page_at(&self->a, 4), '9', PAGE);
		for (i = 0; i < SIBLINGS; i++) {
			tell(go[orders[order][i]][1]);
			EXPECT_EQ(0, exit_code(pid[orders[order][i]]));
		}
		for (i = 0; i < SIBLINGS; i++) {
			close(go[i][0]);
			close(go[i][1]);
		}
		EXPECT_EQ(layers, counter("layers"));
	}
	EXPECT_EQ('9', page_at(&self->a, 4)[0]);
	EXPECT_EQ('A', page_at(&self->a, 0)[PAGE - 1]);
}

/* The parent exits first, with siblings of different age alive. */
TEST_F(fork, orphans)
{
	long long arenas = counter("arenas"), layers = counter("layers");
	unsigned int i;
	pid_t pid = fork();
	int code;

	if (!pid) {
		for (i = 0; i < SIBLINGS; i++) {
			memset(page_at(&self->a, 4), '0' + i, PAGE);
			if (!fork()) {
				code = sibling(&self->a, i, self->down[0]);
				if (write(self->up[1], &code, sizeof(code)) != sizeof(code))
					_exit(1);
				_exit(0);
			}
			memset(page_at(&self->a, 5 + i), '+', PAGE);
		}
		memset(page_at(&self->a, 0), '!', 32 * PAGE);
		_exit(0);
	}
	EXPECT_EQ(0, exit_code(pid));
	for (i = 0; i < SIBLINGS; i++) {
		tell(self->down[1]);
		EXPECT_EQ(sizeof(code), read(self->up[0], &code, sizeof(code)));
		EXPECT_EQ(0, code);
	}
	EXPECT_TRUE(pristine(&self->a));
	for (i = 0; i < 500 && counter("layers") > layers; i++)
		usleep(10000);
	EXPECT_EQ(arenas, counter("arenas"));
	EXPECT_EQ(layers, counter("layers"));
}

/* What only the child held is freed with it, and so is the parent's before it. */
TEST_F(fork, exit_frees)
{
	long long arenas = counter("arenas"), meshed = counter("pages_meshed");
	pid_t pid = fork();

	if (!pid) {
		hear(self->down[0]);
		_exit(pristine(&self->a) ? 0 : 1);
	}
	EXPECT_EQ(arenas + 1, counter("arenas"));
	EXPECT_EQ(meshed, counter("pages_meshed"));
	munmap(self->a.base, 64 * PAGE);
	EXPECT_EQ(arenas, counter("arenas"));
	tell(self->down[1]);
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_EQ(arenas - 1, counter("arenas"));
	EXPECT_EQ(meshed - 1, counter("pages_meshed"));
	self->a = arena_open(1, MESHHELPER_MERGE_ZAP);
}

/* A split arena is still one arena in the child. */
TEST_F(fork, split_mappings)
{
	pid_t pid;

	ASSERT_EQ(0, mprotect(page_at(&self->a, 16), PAGE, PROT_READ));
	pid = fork();
	if (!pid) {
		struct meshhelper_pair pair = make_pair(page_at(&self->a, 3),
							page_at(&self->a, 20), SLOT);

		if (!pristine(&self->a))
			_exit(1);
		page_at(&self->a, 3)[0] = 'x';
		page_at(&self->a, 20)[0] = 'x';
		_exit(merge_one(&self->a, &pair) ? 2 : 0);
	}
	EXPECT_EQ(0, exit_code(pid));
}

static volatile bool stop;

/* Each slot pair holds the same number, but for the moment of one store. */
static void *writer(void *arg)
{
	volatile uint64_t *slots = arg;
	uint64_t n = 0;

	while (!stop) {
		n++;
		slots[0] = n;
		slots[64] = n;
	}
	return NULL;
}

/* Forks in a loop with a writer running and a mesher at work. */
TEST_F(fork, while_writing)
{
	volatile uint64_t *slots = (void *)page_at(&self->a, 50);
	pthread_t thread;
	unsigned int i;

	stop = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, writer, (void *)slots));
	for (i = 0; i < 50; i++) {
		struct meshhelper_pair pair = make_pair(page_at(&self->a, 10 + i % 2),
							page_at(&self->a, 50), 64);
		pid_t pid = fork();

		if (!pid) {
			uint64_t first = slots[0], second = slots[64];

			/* Nobody writes to the child's copy. */
			usleep(1000);
			if (slots[0] != first || slots[64] != second)
				_exit(1);
			_exit(first - second > 1 ? 2 : 0);
		}
		ASSERT_EQ(0, exit_code(pid));
		set_live(&pair, 32);
		merge(&self->a, &pair, 1);
		madvise((void *)(uintptr_t)pair.src, PAGE, MADV_REMOVE);
		memset((void *)(uintptr_t)pair.src, 'z', PAGE);
	}
	stop = true;
	pthread_join(thread, NULL);
}

#define FAULTING	24

static volatile bool forking;

/*
 * Write to each page of a range, by a page fault each time: no entries, or no pages. During a
 * fork, what was begun is ended, and then written to without page faults of that kind.
 */
static void *fault_forever(void *range)
{
	char *page = range;
	uint64_t n = 0;

	while (!stop) {
		n++;
		if (!forking)
			madvise(range, FAULTING * PAGE, n % 2 ? MADV_DONTNEED : MADV_REMOVE);
		for (unsigned int i = 0; i < FAULTING; i++)
			*(volatile uint64_t *)(page + i * PAGE) = n;
	}
	return NULL;
}

static bool still_the_same(const char *range)
{
	uint64_t then[FAULTING];
	unsigned int i;

	for (i = 0; i < FAULTING; i++)
		then[i] = *(volatile uint64_t *)(range + i * PAGE);
	usleep(2000);
	for (i = 0; i < FAULTING; i++)
		if (*(volatile uint64_t *)(range + i * PAGE) != then[i])
			return false;
	return true;
}

/* Faults in a mapping of the arena that fork() comes to later than to the first. */
TEST_F(fork, split_under_faults)
{
	char *range = page_at(&self->a, 40);
	pthread_t thread;
	unsigned int i;

	ASSERT_EQ(0, mprotect(page_at(&self->a, 16), PAGE, PROT_READ));
	stop = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, fault_forever, range));
	for (i = 0; i < 300; i++) {
		pid_t pid;

		usleep(1000);
		forking = true;
		pid = fork();
		if (!pid)
			_exit(!still_the_same(range));
		ASSERT_EQ(0, exit_code(pid));
		forking = false;
	}
	stop = true;
	pthread_join(thread, NULL);
}

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

/* While a page is being moved there is no page table entry that fork could write-protect. */
static void *move_forever(void *arg)
{
	struct arena *a = arg;
	unsigned int i;

	for (i = 2; !stop; i = 2 + (i - 1) % 8)
		madvise(page_at(a, i), PAGE, MADV_SOFT_OFFLINE);
	return NULL;
}

TEST_F_TIMEOUT(fork, moved_page, 120)
{
	unsigned int i, nr = scaled(400);
	pthread_t thread;
	pid_t pid;

	if (madvise(page_at(&self->a, 2), PAGE, MADV_SOFT_OFFLINE) && errno == EINVAL)
		SKIP(return, "kernel has no soft offlining");
	stop = false;
	ASSERT_EQ(0, pthread_create(&thread, NULL, move_forever, &self->a));
	for (i = 0; i < nr; i++) {
		memset(page_at(&self->a, 2), 'a' + i % 26, 8 * PAGE);
		pid = fork();
		if (!pid) {
			hear(self->down[0]);
			_exit(!all_bytes(page_at(&self->a, 2), 8 * PAGE, 'a' + i % 26));
		}
		/* What is dirty would become writable again by that. */
		ASSERT_EQ(0, mprotect(page_at(&self->a, 2), 8 * PAGE, PROT_READ));
		ASSERT_EQ(0, mprotect(page_at(&self->a, 2), 8 * PAGE, PROT_READ | PROT_WRITE));
		memset(page_at(&self->a, 2), '!', 8 * PAGE);
		tell(self->down[1]);
		ASSERT_EQ(0, exit_code(pid)) TH_LOG("fork %u", i);
	}
	stop = true;
	pthread_join(thread, NULL);
}

TEST_HARNESS_MAIN
