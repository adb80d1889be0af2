// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * close-fds DIR [SECONDS]: close every descriptor from 3 up, open files in their place, and see
 * that neither the files nor the heap are disturbed while the heap is meshed.
 *
 * Daemons do this at start. A library that kept descriptors in the application's table
 * would find them closed, or worse, find the application's files in their place.
 *
 * Each round: files of known contents are opened on the lowest free numbers and
 * written, the heap is given time to be meshed, files and heap are checked byte for
 * byte, and /proc/self/fd must list our descriptors and no other. In the first round
 * the heap has until a merge, and SECONDS at most.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "heap.h"

#define FILES		24
#define FILE_BYTES	65536
#define ROUNDS		3
#define LAST_FD		1023

static int fds[FILES];
static unsigned char *buffer;

static void close_all(void)
{
	int fd;

	for (fd = 3; fd <= LAST_FD; fd++)
		close(fd);
}

static void open_files(const char *dir, int round)
{
	char path[PATH_MAX];
	int i;

	for (i = 0; i < FILES; i++) {
		snprintf(path, sizeof(path), "%s/file.%d", dir, i);
		fds[i] = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
		if (fds[i] != 3 + i)
			die("%s was opened as %d, not as %d", path, fds[i], 3 + i);
		payload_fill(buffer, FILE_BYTES, (uint64_t)(round * FILES + i));
		if (write(fds[i], buffer, FILE_BYTES) != FILE_BYTES)
			die("write: %s", strerror(errno));
	}
}

static int check_files(int round)
{
	struct stat st;
	int i, bad = 0;

	for (i = 0; i < FILES; i++) {
		if (fstat(fds[i], &st) || st.st_size != FILE_BYTES ||
		    st.st_blocks * 512 < FILE_BYTES ||
		    pread(fds[i], buffer, FILE_BYTES, 0) != FILE_BYTES ||
		    !payload_ok(buffer, FILE_BYTES, (uint64_t)(round * FILES + i))) {
			fprintf(stderr, "close-fds: file %d is damaged\n", i);
			bad = 1;
		}
	}
	return bad;
}

/* Descriptors that neither the caller gave us nor we opened. */
static int check_table(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int fd, bad = 0;

	if (!dir)
		die("/proc/self/fd: %s", strerror(errno));
	while ((entry = readdir(dir))) {
		fd = atoi(entry->d_name);
		if (fd < 3 + FILES || fd == dirfd(dir))
			continue;
		fprintf(stderr, "close-fds: descriptor %d is not ours\n", fd);
		bad = 1;
	}
	closedir(dir);
	return bad;
}

static int check_heap(const struct heap *h)
{
	size_t wrong = heap_wrong(h, 0);

	if (wrong)
		fprintf(stderr, "close-fds: %zu objects wrong\n", wrong);
	return wrong != 0;
}

static int one_round(const char *dir, int round, double patience)
{
	struct heap heap;
	int bad;

	/* The first heap is there before the first close: the meshing thread is running. */
	heap_make(&heap, 80000, 60, (uint64_t)round);
	if (!round)
		sleep_for(1);
	close_all();
	open_files(dir, round);
	await_merge(patience);
	sleep_for(1);
	bad = check_files(round) | check_table() | check_heap(&heap);
	heap_drop(&heap);
	return bad;
}

int main(int argc, char **argv)
{
	double patience = argc > 2 ? strtod(argv[2], NULL) : 0;
	int round, bad = 0;

	if (argc < 2) {
		fputs("usage: close-fds DIR [SECONDS]\n", stderr);
		return 2;
	}
	buffer = map_or_die(FILE_BYTES);
	for (round = 0; round < ROUNDS; round++)
		bad |= one_round(argv[1], round, patience);
	return bad;
}
