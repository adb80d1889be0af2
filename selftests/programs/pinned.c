// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * pinned FILE ROUNDS: objects whose pages the kernel holds while the heap is merged.
 *
 * FILE is made, of known blocks. In each round most of many small objects are freed, and
 * while the heap is merged all the time
 *  - a thread reads blocks into objects by direct I/O,
 *  - the main thread does so with 32 requests at a time by io_uring,
 *  - objects lent to a pipe by vmsplice() come out of it as they were,
 *  - objects registered with io_uring as buffers before are read into.
 * Every byte must be right at the end. What a kernel refuses as a whole is named.
 *
 * Blocks are as large as objects. Object i is read to by the thread if i is odd and
 * otherwise by the main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench.h"

#define BLOCK	512
#define OBJECTS	8192
#define KEPT	4	/* one in so many */
#define LIVE	(OBJECTS / KEPT)
#define DEPTH	32
#define LENT	8	/* a pipe has room for 16 pieces */

static unsigned char *object[LIVE];
static int file;
static struct io_uring ring;
static int ring_error;
static atomic_int running;

/* A block of the file is what payload_fill() makes of its number. */
static void make_file(const char *path)
{
	unsigned char block[BLOCK];
	int i, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	for (i = 0; i < LIVE; i++) {
		payload_fill(block, BLOCK, (uint64_t)i);
		if (write(fd, block, BLOCK) != BLOCK)
			die("%s: %s", path, strerror(errno));
	}
	if (fsync(fd) || close(fd))
		die("%s: %s", path, strerror(errno));
	file = open(path, O_RDONLY | O_DIRECT);
	if (file >= 0)
		return;
	printf("pinned: no direct I/O here: %s\n", strerror(errno));
	file = open(path, O_RDONLY);
}

static void make_heap(void)
{
	static void *all[OBJECTS];
	int i;

	for (i = 0; i < OBJECTS; i++) {
		all[i] = aligned_alloc(BLOCK, BLOCK);
		if (!all[i])
			die("out of memory");
		memset(all[i], 0xaa, BLOCK);
	}
	for (i = 0; i < OBJECTS; i++) {
		/* Scattered, or no two pages would fit each other. */
		if (i % KEPT == (int)(mix((uint64_t)i / KEPT) % KEPT))
			object[i / KEPT] = all[i];
		else
			free(all[i]);
	}
}

static void check(const char *what)
{
	int i, wrong = 0;

	for (i = 0; i < LIVE; i++)
		wrong += !payload_ok(object[i], BLOCK, (uint64_t)i);
	if (wrong)
		die("%s: %d objects wrong", what, wrong);
}

static void *merge_always(void *unused)
{
	while (atomic_load(&running))
		malloc_trim(0);
	return unused;
}

/* Every other object, from number @first on. */
static void *read_directly(void *first)
{
	size_t i;

	for (i = (size_t)first; i < LIVE; i += 2) {
		if (pread(file, object[i], BLOCK, (off_t)i * BLOCK) != BLOCK)
			die("pread: %s", strerror(errno));
	}
	return NULL;
}

static void reap(unsigned int n)
{
	struct io_uring_cqe *cqe;

	while (n--) {
		if (io_uring_wait_cqe(&ring, &cqe))
			die("io_uring: no completion");
		if (cqe->res != BLOCK)
			die("io_uring: %s", cqe->res < 0 ? strerror(-cqe->res) : "short");
		io_uring_cqe_seen(&ring, cqe);
	}
}

/* Every other object; as a registered buffer, the last @fixed of them. */
static void read_by_ring(unsigned int fixed)
{
	unsigned int i, n = 0;

	for (i = fixed ? LIVE - 2 * fixed : 0; i < LIVE; i += 2) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		unsigned int buffer = fixed - (LIVE - i) / 2;

		if (fixed)
			io_uring_prep_read_fixed(sqe, file, object[i], BLOCK, i * BLOCK,
						 (int)buffer);
		else
			io_uring_prep_read(sqe, file, object[i], BLOCK, i * BLOCK);
		if (++n < DEPTH && i + 2 < LIVE)
			continue;
		io_uring_submit(&ring);
		reap(n);
		n = 0;
	}
}

static void read_registered(void)
{
	struct iovec iov[DEPTH];
	unsigned int i;
	int ret;

	for (i = 0; i < DEPTH; i++) {
		iov[i].iov_base = object[LIVE - 2 * (DEPTH - i)];
		iov[i].iov_len = BLOCK;
	}
	ret = io_uring_register_buffers(&ring, iov, DEPTH);
	if (ret) {
		printf("pinned: no registered buffers: %s\n", strerror(-ret));
		return;
	}
	malloc_trim(0);
	for (i = 0; i < DEPTH; i++)
		memset(iov[i].iov_base, 0x55, BLOCK);
	read_by_ring(DEPTH);
	io_uring_unregister_buffers(&ring);
	for (i = LIVE - 2 * DEPTH; i < LIVE; i += 2) {
		if (!payload_ok(object[i], BLOCK, i))
			die("registered buffers: object %u is wrong", i);
	}
}

/* What was lent to the pipe is neither changed nor freed until it has come out. */
static void lend(int first)
{
	unsigned char got[LENT * BLOCK];
	struct iovec iov[LENT];
	int i, fds[2];

	if (pipe(fds))
		die("pipe: %s", strerror(errno));
	for (i = 0; i < LENT; i++) {
		payload_fill(object[first + i], BLOCK, (uint64_t)(first + i));
		iov[i].iov_base = object[first + i];
		iov[i].iov_len = BLOCK;
	}
	if (vmsplice(fds[1], iov, LENT, 0) != sizeof(got))
		die("vmsplice: %s", strerror(errno));
	malloc_trim(0);
	if (read(fds[0], got, sizeof(got)) != sizeof(got))
		die("read: %s", strerror(errno));
	for (i = 0; i < LENT; i++) {
		if (!payload_ok(got + i * BLOCK, BLOCK, (uint64_t)(first + i)) ||
		    !payload_ok(object[first + i], BLOCK, (uint64_t)(first + i)))
			die("vmsplice: object %d is wrong", first + i);
	}
	close(fds[0]);
	close(fds[1]);
}

static void one_round(void)
{
	pthread_t merger, reader;
	int i;

	make_heap();
	atomic_store(&running, 1);
	if (pthread_create(&merger, NULL, merge_always, NULL) ||
	    pthread_create(&reader, NULL, read_directly, (void *)1))
		die("cannot start a thread");
	if (ring_error)
		read_directly(NULL);
	else
		read_by_ring(0);
	pthread_join(reader, NULL);
	check("direct I/O");
	if (!ring_error)
		read_registered();
	for (i = 0; i < LIVE; i += LIVE / 16)
		lend(i);
	atomic_store(&running, 0);
	pthread_join(merger, NULL);
	for (i = 0; i < LIVE; i++)
		free(object[i]);
}

int main(int argc, char **argv)
{
	int round;

	if (argc != 3) {
		fputs("usage: pinned FILE ROUNDS\n", stderr);
		return 2;
	}
	make_file(argv[1]);
	ring_error = io_uring_queue_init(DEPTH, &ring, 0);
	if (ring_error)
		printf("pinned: no io_uring: %s\n", strerror(-ring_error));
	for (round = 0; round < atoi(argv[2]); round++)
		one_round();
	return 0;
}
