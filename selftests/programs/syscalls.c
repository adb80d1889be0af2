// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * syscalls ROUNDS: system calls write to objects whose pages are being merged.
 *
 * Threads have every live object filled by the kernel, from a pipe, a socket or a file, and
 * read by it again; meanwhile the main thread has the heap merged. No call may fail or be
 * short, and at the end every byte is right. The threads have all signals blocked: a
 * barrier that relied on a handler for SIGSEGV would kill the program.
 *
 * Object i belongs to thread i % THREADS.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"
#include "heap.h"

#define THREADS	3
#define OBJECTS	40000

static struct heap heap;
static atomic_int running;

enum way {
	BY_PIPE,
	BY_SOCKET,
	BY_FILE,
};

/* What is written to the second comes out of the first. */
static void open_way(enum way way, int fds[2])
{
	int ret;

	if (way == BY_PIPE) {
		ret = pipe(fds);
	} else if (way == BY_SOCKET) {
		ret = socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
	} else {
		fds[0] = memfd_create("data", MFD_CLOEXEC);
		fds[1] = dup(fds[0]);
		ret = fds[1];
	}
	if (ret < 0)
		die("no way to pass data: %s", strerror(errno));
}

static ssize_t give(enum way way, int fd, const void *from, size_t len)
{
	return way == BY_FILE ? pwrite(fd, from, len, 0) : write(fd, from, len);
}

static ssize_t take(enum way way, int fd, void *to, size_t len)
{
	if (way == BY_FILE)
		return pread(fd, to, len, 0);
	return way == BY_SOCKET ? recv(fd, to, len, 0) : read(fd, to, len);
}

static void must(const char *what, ssize_t ret, size_t len)
{
	if (ret != (ssize_t)len)
		die("%s: %zd of %zu bytes: %s", what, ret, len,
		    ret < 0 ? strerror(errno) : "short");
}

/* The kernel writes the new contents to the object, and reads them out of it. */
static void pass_through(enum way way, const int fds[2], size_t i)
{
	unsigned char want[HEAP_OBJECT_MAX], got[HEAP_OBJECT_MAX];
	size_t len = heap_contents(&heap, i, 1, want);

	must("sending", give(way, fds[1], want, len), len);
	must("receiving to the object", take(way, fds[0], heap.object[i], len), len);
	must("sending the object", give(way, fds[1], heap.object[i], len), len);
	must("receiving", take(way, fds[0], got, len), len);
	if (memcmp(want, got, len))
		die("object %zu has other contents", i);
}

static void *worker(void *arg)
{
	enum way way = (enum way)(size_t)arg;
	int fds[2];
	size_t i;

	open_way(way, fds);
	for (i = (size_t)way; i < heap.objects; i += THREADS) {
		if (heap.object[i])
			pass_through(way, fds, i);
	}
	close(fds[0]);
	close(fds[1]);
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void start(pthread_t thread[THREADS])
{
	sigset_t all, before;
	size_t t;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	atomic_store(&running, THREADS);
	for (t = 0; t < THREADS; t++) {
		if (pthread_create(&thread[t], NULL, worker, (void *)t))
			die("cannot start a thread");
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void one_round(uint64_t seed)
{
	pthread_t thread[THREADS];
	size_t t, wrong;

	heap_make(&heap, OBJECTS, 80, seed);
	start(thread);
	while (atomic_load(&running))
		malloc_trim(0);
	for (t = 0; t < THREADS; t++)
		pthread_join(thread[t], NULL);
	wrong = heap_wrong(&heap, 1);
	if (wrong)
		die("%zu objects wrong", wrong);
	heap_drop(&heap);
}

int main(int argc, char **argv)
{
	int round, rounds = argc > 1 ? atoi(argv[1]) : 1;

	for (round = 0; round < rounds; round++)
		one_round((uint64_t)round);
	return 0;
}
