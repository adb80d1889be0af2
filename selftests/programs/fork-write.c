// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fork-write FORKS [SECONDS]: fork while threads write, with the heap being meshed.
 *
 * Two heaps. The still one is written by nobody but children, who own a copy of it;
 * the busy one is rewritten all the time by the writer threads of the parent. A child
 *  - finds the still heap as it was made,
 *  - sees the busy heap frozen: two checksums of it, with a pause in between, agree,
 *  - writes to its copy of the still heap and finds that again,
 *  - allocates and frees.
 * After each child the parent checks that its own still heap is as it was made.
 *
 * What a child shares is not merged, so half of the forks come after a rest without
 * children: until there was a merge, and for SECONDS at most.
 *
 * Threads: writers touch the busy heap only, each its own stripe; all else is done by
 * the main thread. The writers take no lock: the child may not wait for one.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "heap.h"

#define WRITERS		2
#define STILL_OBJECTS	60000
#define BUSY_OBJECTS	20000

static struct heap still, busy;
static atomic_int stop;

static void *writer(void *arg)
{
	size_t i, w = (size_t)arg;
	uint64_t generation = 0;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		generation++;
		for (i = w; i < busy.objects; i += WRITERS)
			heap_rewrite(&busy, i, generation);
	}
	return NULL;
}

/* Of the first 16 bytes of every object: each has at least that many. */
static uint64_t checksum(const struct heap *h)
{
	uint64_t word[2], sum = 0;
	size_t i;

	for (i = 0; i < h->objects; i++) {
		if (!h->object[i])
			continue;
		memcpy(word, h->object[i], sizeof(word));
		sum = mix(sum ^ word[0]) + word[1];
	}
	return sum;
}

static void rewrite_all(struct heap *h, uint64_t generation)
{
	size_t i;

	for (i = 0; i < h->objects; i++)
		heap_rewrite(h, i, generation);
}

/* What the child finds wrong, as a sentence for its parent's terminal; NULL if nothing. */
static const char *child_check(uint64_t number)
{
	struct heap own;
	uint64_t sum;

	sum = checksum(&busy);
	if (heap_wrong(&still, 0))
		return "child: the still heap is not the parent's";
	rewrite_all(&still, number);
	heap_make(&own, 5000, 50, number);
	sleep_for(0.02);
	if (checksum(&busy) != sum)
		return "child: the parent's writes show up";
	if (heap_wrong(&still, number))
		return "child: its own writes are gone";
	if (heap_wrong(&own, 0))
		return "child: memory allocated after fork was overwritten";
	heap_drop(&own);
	return NULL;
}

static void run_child(uint64_t number)
{
	const char *wrong = child_check(number);

	if (wrong)
		dprintf(2, "fork-write: fork %lu: %s\n", (unsigned long)number, wrong);
	_exit(wrong != NULL);
}

/* Two children at a time, so that there are siblings whose writes could show up. */
static int fork_pair(uint64_t number)
{
	pid_t pid[2];
	int i, status, bad = 0;

	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			die("fork: %s", strerror(errno));
		if (!pid[i])
			run_child(number + (uint64_t)i);
	}
	for (i = 0; i < 2; i++) {
		if (waitpid(pid[i], &status, 0) != pid[i] || status) {
			fprintf(stderr, "fork-write: a child ended with status 0x%x\n", status);
			bad = 1;
		}
	}
	return bad;
}

/* The numbers of the forks are from @n up to, not including, @end. */
static int fork_pairs(unsigned long n, unsigned long end)
{
	size_t wrong;

	for (; n < end; n += 2) {
		if (fork_pair(n))
			return 1;
		wrong = heap_wrong(&still, 0);
		if (wrong) {
			fprintf(stderr, "fork-write: parent: %zu objects wrong\n", wrong);
			return 1;
		}
		sleep_for(0.03);
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long forks = argc > 1 ? strtoul(argv[1], NULL, 10) : 50;
	double patience = argc > 2 ? strtod(argv[2], NULL) : 0;
	pthread_t thread[WRITERS];
	size_t w;
	int bad;

	heap_make(&still, STILL_OBJECTS, 60, 1);
	heap_make(&busy, BUSY_OBJECTS, 60, 2);
	for (w = 0; w < WRITERS; w++) {
		if (pthread_create(&thread[w], NULL, writer, (void *)w))
			die("cannot start a thread");
	}
	bad = fork_pairs(1, 1 + forks / 2);
	await_merge(patience);
	bad |= fork_pairs(1 + forks / 2, 1 + forks);
	atomic_store(&stop, 1);
	for (w = 0; w < WRITERS; w++)
		pthread_join(thread[w], NULL);
	heap_drop(&still);
	heap_drop(&busy);
	return bad;
}
