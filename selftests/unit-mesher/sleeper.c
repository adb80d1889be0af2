/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * sleeper: allocate many objects, free most of them at random, and sleep.
 *
 *	sleeper [-n OBJECTS] [-s SIZE] [-f PERCENT-FREED] [-t SECONDS] [-d PERCENT]
 *		[-w WRITERS] [-k CHILDREN] [-l EVERY]
 *
 * Run with libmesh.so preloaded. It sleeps for SECONDS and, with -d, for two more minutes
 * at most until its proportional set size has dropped by PERCENT: how fast that goes depends
 * on what else the machine does. While it sleeps nothing is allocated or freed;
 * with -w, threads keep rewriting and rereading their share of the objects; with
 * -k, children are forked, which verify what they have inherited, change it and
 * are meshed themselves. Fails if the contents of an object are wrong anywhere,
 * or if the size has not dropped in that time.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Half seconds for which -d is waited for. */
#define PATIENCE	240

static unsigned int nr_objects = 200000, size = 256, freed = 80, seconds = 3;
static unsigned int drop, writers, children, locked;

/* objects[i] is filled with the byte that round[i] and i make. */
static unsigned char **objects;
static unsigned char *rounds;
static atomic_bool stop;
static atomic_ulong wrong, rewrites;

static unsigned char pattern(unsigned int i)
{
	return (unsigned char)((i * 2654435761u >> 24) + rounds[i] * 31 + 1);
}

static void fill(unsigned int i)
{
	memset(objects[i], pattern(i), size);
}

static void verify(unsigned int i)
{
	unsigned char c = pattern(i);
	unsigned int j;

	for (j = 0; j < size; j++)
		if (objects[i][j] != c) {
			atomic_fetch_add(&wrong, 1);
			return;
		}
}

static void *writer(void *arg)
{
	unsigned int i, w = (unsigned int)(size_t)arg;

	while (!atomic_load(&stop)) {
		for (i = w; i < nr_objects; i += 97 * writers) {
			if (!objects[i])
				continue;
			verify(i);
			rounds[i]++;
			fill(i);
			verify(i);
			atomic_fetch_add(&rewrites, 1);
		}
		usleep(2000);
	}
	return NULL;
}

/* Without stdio, which allocates. */
static long pss_kib(void)
{
	char text[4096];
	const char *line;
	ssize_t len = -1;
	int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		len = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	text[len > 0 ? len : 0] = '\0';
	line = strstr(text, "\nPss:");
	return line ? atol(line + 5) : -1;
}

static unsigned int maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned int n = 0;
	int c;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "n:s:f:t:d:w:k:l:")) != -1) {
		unsigned int v = c == '?' ? 0 : (unsigned int)atoi(optarg);

		switch (c) {
		case 'n': nr_objects = v; break;
		case 's': size = v; break;
		case 'f': freed = v; break;
		case 't': seconds = v; break;
		case 'd': drop = v; break;
		case 'w': writers = v; break;
		case 'k': children = v; break;
		case 'l': locked = v; break;
		default: exit(2);
		}
	}
}

static unsigned char *new_object(void)
{
	unsigned char *p = malloc(size);

	if (!p) {
		printf("sleeper: malloc failed\n");
		exit(1);
	}
	return p;
}

static void verify_all(void)
{
	unsigned int i;

	for (i = 0; i < nr_objects; i++)
		if (objects[i])
			verify(i);
}

/*
 * A child has what was there at the fork; what a writer was in the middle of is
 * torn, so with writers only the others are looked at.
 */
static void child(void)
{
	unsigned int i;

	for (i = 0; i < nr_objects; i++) {
		if (!objects[i] || (writers && i % (97 * writers) < writers))
			continue;
		verify(i);
		if (i % 3)
			continue;
		rounds[i] ^= 0x55;
		fill(i);
		if (i % 2) {
			free(objects[i]);
			objects[i] = new_object();
			fill(i);
		}
	}
	malloc_trim(0);
	for (i = 0; i < nr_objects; i++)
		if (objects[i] && !(writers && i % (97 * writers) < writers))
			verify(i);
	_exit(wrong != 0);
}

static void fork_children(void)
{
	unsigned int i;

	for (i = 0; i < children; i++) {
		int status;
		pid_t pid = fork();

		if (!pid)
			child();
		usleep(20000);
		if (waitpid(pid, &status, 0) != pid || status) {
			printf("sleeper: child %u: status %x\n", i, status);
			atomic_fetch_add(&wrong, 1);
		}
	}
}

/* With -l, lock every so many in memory, as programs do with secrets. */
static void populate(void)
{
	unsigned int i;

	objects = calloc(nr_objects, sizeof(*objects));
	rounds = calloc(nr_objects, 1);
	for (i = 0; i < nr_objects; i++) {
		objects[i] = new_object();
		fill(i);
		if (locked && i % locked == 0 && mlock(objects[i], size))
			perror("sleeper: mlock");
	}
	for (i = 0; i < nr_objects; i++)
		if ((unsigned int)random() % 100 < freed) {
			free(objects[i]);
			objects[i] = NULL;
		}
}

/* Pages that are not mapped at the moment do not count: touch all. */
static long whole_pss_kib(void)
{
	unsigned int i;

	for (i = 0; i < nr_objects; i++)
		if (objects[i])
			(void)*(volatile unsigned char *)objects[i];
	return pss_kib();
}

static bool has_dropped(long before, long after)
{
	return after * 100 <= before * (100L - drop);
}

/* Returns the set size after that. */
static long sleep_and_work(long before)
{
	pthread_t t[16];
	unsigned int i;
	long after;

	for (i = 0; i < writers && i < 16; i++)
		pthread_create(&t[i], NULL, writer, (void *)(size_t)i);
	fork_children();
	sleep(seconds);
	after = whole_pss_kib();
	for (i = 0; drop && i < PATIENCE && !has_dropped(before, after); i++) {
		usleep(500000);
		after = whole_pss_kib();
	}
	atomic_store(&stop, true);
	for (i = 0; i < writers && i < 16; i++)
		pthread_join(t[i], NULL);
	return after;
}

int main(int argc, char **argv)
{
	long before, after;

	parse(argc, argv);
	srandom(1);
	populate();
	before = pss_kib();
	puts("sleeper: asleep");
	fflush(stdout);
	after = sleep_and_work(before);
	verify_all();
	printf("sleeper: PSS %ld -> %ld KiB, %u mappings, %lu rewrites, "
	       "%lu objects wrong\n", before, after, maps(), rewrites, wrong);
	return wrong || (drop && !has_dropped(before, after));
}
