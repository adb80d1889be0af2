// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Two processes that use the module never reach each other's pages, whatever they
 * ask for, and a process that closes every descriptor disturbs nothing.
 */
#include "peer.h"

#include <dirent.h>
#include <poll.h>

#include "kselftest_harness.h"

/* A process with an arena full of 'v' at a known address, until it is told to look once more. */
static pid_t start_victim(struct arena *a, int ready, int once_more)
{
	struct pollfd told = { .fd = once_more, .events = POLLIN };
	pid_t pid = fork();

	if (pid)
		return pid;
	*a = arena_open(64, MESHHELPER_MERGE_ZAP);
	memset(a->base, 'v', 64 * PAGE);
	if (write(ready, &a->base, sizeof(a->base)) != sizeof(a->base))
		die("write");
	for (;;) {
		bool last = poll(&told, 1, 1);
		unsigned int i;

		for (i = 0; i < 64 * PAGE; i++)
			if (a->base[i] != 'v')
				_exit(1);
		if (last)
			_exit(0);
	}
}

TEST(other_process)
{
	struct arena a = { 0 }, mine;
	struct meshhelper_pair pair;
	int ready[2], once_more[2];
	char *base;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(once_more));
	pid = start_victim(&a, ready[1], once_more[0]);
	ASSERT_EQ(sizeof(base), read(ready[0], &base, sizeof(base)));

	/* Same addresses, other process: an arena there is mine, and empty. */
	mine = arena_open(64, MESHHELPER_MERGE_ZAP);
	pair = make_pair(base, base + PAGE, 64);
	if (base != mine.base) {
		merge(&mine, &pair, 1);
		EXPECT_EQ(-EFAULT, pair.result);
	}
	memset(mine.base, 'm', 64 * PAGE);
	EXPECT_EQ(0, madvise(mine.base, 32 * PAGE, MADV_REMOVE));
	EXPECT_EQ(0, mine.base[0]);
	EXPECT_EQ('m', mine.base[40 * PAGE]);
	tell(once_more[1]);
	EXPECT_EQ(0, exit_code(pid));
	arena_close(&mine);
}

/* A descriptor passed on by fork acts on the process that uses it, not its maker. */
TEST(inherited_descriptor)
{
	struct arena a = arena_open(64, MESHHELPER_MERGE_ZAP);
	struct meshhelper_pair pair = make_pair(a.base, a.base + PAGE, 64);
	int status;
	pid_t pid;

	memset(a.base, 'p', 64 * PAGE);
	pid = fork();
	if (!pid) {
		/* The child's own copy of the arena, at the same addresses. */
		memset(a.base, 'c', 64 * PAGE);
		if (merge_one(&a, &pair) || !same_frame(a.base, a.base + PAGE))
			_exit(1);
		if (madvise(a.base, 64 * PAGE, MADV_REMOVE) || a.base[5 * PAGE])
			_exit(2);
		munmap(a.base, 64 * PAGE);
		merge(&a, &pair, 1);
		_exit(pair.result == -EFAULT ? 0 : 3);
	}
	waitpid(pid, &status, 0);
	EXPECT_EQ(0, status);
	EXPECT_EQ('p', a.base[0]);
	EXPECT_EQ('p', a.base[63 * PAGE]);
	EXPECT_FALSE(same_frame(a.base, a.base + PAGE));
	arena_close(&a);
}

/* Opening the arena's file through /proc gives nothing that could change it. */
TEST(map_files)
{
	struct arena a = arena_open(16, MESHHELPER_MERGE_ZAP);
	char path[128], byte = 'w';
	void *map;
	int fd;

	memset(a.base, 'a', 16 * PAGE);
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)a.base,
		 (unsigned long)a.base + 16 * PAGE);
	fd = open(path, O_RDWR);
	if (fd >= 0) {
		EXPECT_EQ(-1, ftruncate(fd, 0));
		EXPECT_EQ(-1, pwrite(fd, &byte, 1, 0));
		EXPECT_EQ(-1, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					PAGE));
		map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		EXPECT_EQ(MAP_FAILED, map);
		close(fd);
	}
	EXPECT_EQ(-1, truncate(path, 0));
	fd = open(path, O_RDWR | O_TRUNC);
	EXPECT_GT(0, fd);
	EXPECT_EQ('a', a.base[0]);
	EXPECT_EQ('a', a.base[15 * PAGE]);
	arena_close(&a);
}

/* No descriptor is needed once the arena is mapped. */
TEST(closed_descriptors)
{
	struct arena a = arena_open(16, MESHHELPER_MERGE_ZAP);
	char name[] = "/tmp/mesh-isolation-XXXXXX";
	char buffer[PAGE];
	unsigned int i;
	int fd;

	memset(a.base, 'a', 16 * PAGE);
	closefrom(3);
	fd = mkstemp(name);
	ASSERT_LE(0, fd);
	unlink(name);
	memset(buffer, 'f', PAGE);
	ASSERT_EQ(PAGE, write(fd, buffer, PAGE));
	/* The file has the number the device had. */
	EXPECT_EQ(fd, a.fd);
	memset(a.base, 'b', 16 * PAGE);
	EXPECT_EQ(0, madvise(a.base, 8 * PAGE, MADV_REMOVE));
	ASSERT_EQ(PAGE, pread(fd, buffer, PAGE, 0));
	for (i = 0; i < PAGE; i++)
		ASSERT_EQ('f', buffer[i]);
	EXPECT_EQ('b', a.base[8 * PAGE]);
	arena_close(&a);
}

TEST_HARNESS_MAIN
