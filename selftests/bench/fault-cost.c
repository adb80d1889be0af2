// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fault-cost: what page faults cost in an arena of the module, next to the same faults in
 * plain shared memory (a memfd) and in private anonymous memory.
 *
 *	first write	the page does not exist yet
 *	write		the page exists, its page table entry does not
 *	read		the same; the kernel may map some pages around it as well
 *
 * Several threads have a part of one mapping each. Their faults need the same locks of the
 * mapping, but no page of each other's; what is printed is the time between the start of
 * the first and the end of the last, for a page. Kinds of memory take turns in each round;
 * medians over the rounds.
 *
 *	fault-cost [-n PAGES] [-r ROUNDS] [-t THREADS]
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE		4096UL
#define MAX_ROUNDS	99
#define MAX_THREADS	16

enum kind { SHMEM, ARENA, ANONYMOUS, NR_KINDS };

static const char *const kind_names[NR_KINDS] = { "shmem", "arena", "anonymous" };

enum access { FIRST_WRITE, WRITE, READ, NR_ACCESSES };

static const char *const access_names[NR_ACCESSES] = { "first write", "write", "read" };

static size_t pages = 16384;
static unsigned int rounds = 5;
static unsigned int max_threads = 2;

static char *memory[NR_KINDS];
static double ns[NR_KINDS][NR_ACCESSES][MAX_ROUNDS];
static pthread_barrier_t start;

struct part {
	pthread_t thread;
	char *first;
	size_t pages;
	bool writes;
	double began;
	double ended;
};

static void *access_part(void *arg)
{
	struct part *part = arg;
	volatile char *at = part->first;
	size_t i;

	pthread_barrier_wait(&start);
	part->began = now();
	for (i = 0; i < part->pages; i++, at += PAGE) {
		if (part->writes)
			*at = 1;
		else
			(void)*at;
	}
	part->ended = now();
	return NULL;
}

/* Nanoseconds for a page. */
static double access_all(char *base, bool writes, unsigned int threads)
{
	struct part parts[MAX_THREADS];
	double began = 0, ended = 0;
	unsigned int i;

	pthread_barrier_init(&start, NULL, threads);
	for (i = 0; i < threads; i++) {
		parts[i] = (struct part) {
			.first = base + pages / threads * PAGE * i,
			.pages = pages / threads,
			.writes = writes,
		};
		if (pthread_create(&parts[i].thread, NULL, access_part, &parts[i]))
			die("pthread_create: %s", strerror(errno));
	}
	for (i = 0; i < threads; i++) {
		pthread_join(parts[i].thread, NULL);
		if (!i || parts[i].began < began)
			began = parts[i].began;
		if (parts[i].ended > ended)
			ended = parts[i].ended;
	}
	pthread_barrier_destroy(&start);
	return (ended - began) * 1e9 / (pages / threads * threads);
}

static void forget(enum kind kind, enum access access)
{
	int advice = access == FIRST_WRITE && kind != ANONYMOUS ? MADV_REMOVE : MADV_DONTNEED;

	if (madvise(memory[kind], pages * PAGE, advice))
		die("madvise of %s: %s", kind_names[kind], strerror(errno));
}

/* Nothing of anonymous memory is left without its page table entries. */
static bool possible(enum kind kind, enum access access)
{
	return kind != ANONYMOUS || access == FIRST_WRITE;
}

static void measure(unsigned int threads, unsigned int round)
{
	unsigned int access, kind;

	for (access = 0; access < NR_ACCESSES; access++) {
		for (kind = 0; kind < NR_KINDS; kind++) {
			if (!possible(kind, access))
				continue;
			forget(kind, access);
			ns[kind][access][round] = access_all(memory[kind], access != READ,
							     threads);
		}
	}
}

static void print(unsigned int threads)
{
	unsigned int access, kind;

	for (access = 0; access < NR_ACCESSES; access++) {
		double base = median(ns[SHMEM][access], rounds);

		printf("%-12s %7u", access_names[access], threads);
		for (kind = 0; kind < NR_KINDS; kind++) {
			double value = median(ns[kind][access], rounds);

			if (possible(kind, access))
				printf(" %10.0f %5.2f", value, value / base);
		}
		printf("\n");
	}
}

static char *map(int fd, int flags)
{
	void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	/* One page at a time everywhere. */
	madvise(p, pages * PAGE, MADV_NOHUGEPAGE);
	if (fd >= 0)
		close(fd);
	return p;
}

static void map_all(void)
{
	int fd = memfd_create("fault-cost", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, pages * PAGE))
		die("memfd: %s", strerror(errno));
	memory[SHMEM] = map(fd, MAP_SHARED);
	fd = open("/dev/meshhelper", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("/dev/meshhelper: %s", strerror(errno));
	memory[ARENA] = map(fd, MAP_SHARED);
	memory[ANONYMOUS] = map(-1, MAP_PRIVATE | MAP_ANONYMOUS);
}

static void parse(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "n:r:t:")) != -1) {
		if (option == 'n')
			pages = strtoul(optarg, NULL, 0);
		else if (option == 'r')
			rounds = strtoul(optarg, NULL, 0);
		else if (option == 't')
			max_threads = strtoul(optarg, NULL, 0);
		else
			exit(2);
	}
	if (!rounds || rounds > MAX_ROUNDS || !max_threads || max_threads > MAX_THREADS ||
	    pages < max_threads)
		die("1 to %u rounds, 1 to %u threads, a page for each", MAX_ROUNDS, MAX_THREADS);
}

int main(int argc, char **argv)
{
	unsigned int threads, round, kind;

	parse(argc, argv);
	map_all();
	printf("%zu pages, %u rounds: ns for a page, and times shmem's\n\n", pages, rounds);
	printf("access       threads");
	for (kind = 0; kind < NR_KINDS; kind++)
		printf(" %16s", kind_names[kind]);
	printf("\n");
	for (threads = 1; threads <= max_threads; threads *= 2) {
		/* Once for nothing. */
		measure(threads, 0);
		for (round = 0; round < rounds; round++)
			measure(threads, round);
		print(threads);
	}
	return 0;
}
