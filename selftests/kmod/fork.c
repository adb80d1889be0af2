// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fork: parent and child each keep what they had, whoever writes, merges or removes
 * afterwards, and however the child was made.
 */
#include "arena.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "kselftest_harness.h"

#define SLOT	512

FIXTURE(fork) {
	struct arena a;
	int up[2];
	int down[2];
};

FIXTURE_SETUP(fork)
{
	struct meshhelper_pair pair;
	unsigned int i;

	self->a = arena_open(64, MESHHELPER_MERGE_ZAP);
	for (i = 0; i < 32; i++)
		memset(page_at(&self->a, i), 'A' + i, PAGE);
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

static void signal_peer(int fd)
{
	if (write(fd, "x", 1) != 1)
		die("write");
}

static void wait_peer(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		die("read");
}

static int exit_code(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
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
		wait_peer(self->down[0]);
		_exit(pristine(&self->a) ? 0 : 1);
	}
	scribble(&self->a);
	signal_peer(self->down[1]);
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

/* Aliases survive on both sides; the child merges on, and nothing is shared. */
TEST_F(fork, child_meshes)
{
	uint64_t parent_frame = pfn_of(page_at(&self->a, 0));
	pid_t pid = fork();

	if (!pid) {
		struct meshhelper_pair pair;

		if (!same_frame(page_at(&self->a, 0), page_at(&self->a, 1)))
			_exit(1);
		if (pfn_of(page_at(&self->a, 0)) == parent_frame)
			_exit(2);
		pair = make_pair(page_at(&self->a, 2), page_at(&self->a, 1), SLOT);
		set_live(&pair, 2);
		if (merge_one(&self->a, &pair))
			_exit(3);
		if (page_at(&self->a, 0)[0] != 'A' || page_at(&self->a, 1)[SLOT] != 'B' ||
		    page_at(&self->a, 2)[2 * SLOT] != 'C')
			_exit(4);
		/* The alias map was copied with its groups: leaving one works. */
		if (madvise(page_at(&self->a, 0), PAGE, MADV_REMOVE))
			_exit(5);
		if (page_at(&self->a, 0)[0] || page_at(&self->a, 1)[SLOT] != 'B')
			_exit(6);
		_exit(0);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(pristine(&self->a));
}

TEST_F(fork, raw_clone)
{
	pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid) {
		wait_peer(self->down[0]);
		if (!pristine(&self->a))
			_exit(1);
		scribble(&self->a);
		signal_peer(self->up[1]);
		_exit(0);
	}
	scribble(&self->a);
	memset(page_at(&self->a, 20), 'p', PAGE);
	signal_peer(self->down[1]);
	wait_peer(self->up[0]);
	EXPECT_EQ('p', *page_at(&self->a, 20));
	EXPECT_EQ(0, exit_code(pid));
}

/* Each generation exits before its child looks. */
TEST_F(fork, chain)
{
	long long arenas = counter("arenas");
	pid_t pid = fork();
	unsigned int i;

	if (!pid) {
		for (i = 0; i < 20; i++) {
			pid = fork();
			if (pid < 0)
				_exit(9);
			if (pid)
				_exit(exit_code(pid));
			if (page_at(&self->a, 40)[0] != (char)i)
				_exit(10 + i);
			if (!same_frame(page_at(&self->a, 0), page_at(&self->a, 1)))
				_exit(50 + i);
			page_at(&self->a, 40)[0] = i + 1;
		}
		_exit(0);
	}
	EXPECT_EQ(0, exit_code(pid));
	EXPECT_TRUE(pristine(&self->a));
	EXPECT_EQ(arenas, counter("arenas"));
}

/* What only the child held is freed with it, and so is the parent's before it. */
TEST_F(fork, exit_frees)
{
	long long arenas = counter("arenas"), meshed = counter("pages_meshed");
	pid_t pid = fork();

	if (!pid) {
		wait_peer(self->down[0]);
		_exit(pristine(&self->a) ? 0 : 1);
	}
	EXPECT_EQ(arenas + 1, counter("arenas"));
	EXPECT_EQ(meshed + 1, counter("pages_meshed"));
	munmap(self->a.base, 64 * PAGE);
	EXPECT_EQ(arenas, counter("arenas"));
	signal_peer(self->down[1]);
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

TEST_HARNESS_MAIN
