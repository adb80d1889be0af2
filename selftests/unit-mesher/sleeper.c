/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * sleeper: allocate many objects, free most of them at random, and sleep.
 *
 *	sleeper [-n OBJECTS] [-s SIZE] [-f PERCENT-FREED] [-t SECONDS] [-d PERCENT]
 *		[-w WRITERS] [-k CHILDREN] [-l EVERY]
 *
 * Run with libmesh.so preloaded. While it sleeps nothing is allocated or freed;
 * with -w, threads keep rewriting and rereading their share of the objects; with
 * -k, children are forked, which verify what they have inherited, change it and
 * are meshed themselves. Fails if the contents of an object are wrong anywhere,
 * or with -d if the proportional set size drops by less than PERCENT.
 */
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

static long pss_kib(void)
{
	char line[200];
	long kib = -1;
	FILE *f = fopen("/proc/self/smaps_rollup", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Pss: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
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

static void sleep_and_work(void)
{
	pthread_t t[16];
	unsigned int i;

	for (i = 0; i < writers && i < 16; i++)
		pthread_create(&t[i], NULL, writer, (void *)(size_t)i);
	fork_children();
	sleep(seconds);
	atomic_store(&stop, true);
	for (i = 0; i < writers && i < 16; i++)
		pthread_join(t[i], NULL);
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
	sleep_and_work();
	/* Pages that are not mapped at the moment do not count: touch all. */
	verify_all();
	after = pss_kib();
	printf("sleeper: PSS %ld -> %ld KiB, %u mappings, %lu rewrites, "
	       "%lu objects wrong\n", before, after, maps(), rewrites, wrong);
	return wrong || (drop && after * 100 > before * (100L - drop));
}
