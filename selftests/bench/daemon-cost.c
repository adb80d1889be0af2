// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * daemon-cost merge|idle|churn: processor time of the library's meshing thread.
 *
 *	merge	free most of many objects and wait until nothing more is merged: what a
 *		merged page has cost, the search and all else included
 *	idle	the same, and then sleep: what the thread needs when there is nothing to do
 *	churn	objects die and are born all the time, in spans that are all full or, with
 *		--free, too full to fit each other: what it needs when there is nothing to gain
 *
 * What is merged is one page each. The thread is known by its name; the kernel has its
 * time in nanoseconds. Run with libmesh.so preloaded and MESH_START_KIB=0.
 */
#include "bench.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How many objects are freed depends on what is measured, unless it is said. */
#define BY_MODE	ULONG_MAX

static struct {
	size_t objects;
	size_t size;
	unsigned long free_percent;
	unsigned long seconds;
} opt = { .objects = 400000, .size = 128, .free_percent = BY_MODE, .seconds = 30 };

static unsigned char **object;

static ssize_t read_text(const char *path, char *to, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, to, size - 1);

	if (fd >= 0)
		close(fd);
	to[n > 0 ? n : 0] = '\0';
	return n;
}

/* 0 while there is no such thread. */
static int meshing_thread(void)
{
	DIR *dir = opendir("/proc/self/task");
	char path[300], comm[32];
	struct dirent *entry;
	int tid = 0;

	while (dir && !tid && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		read_text(path, comm, sizeof(comm));
		if (!strcmp(comm, "mesh\n"))
			tid = atoi(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return tid;
}

/* Seconds that the meshing thread has been running. */
static double thread_seconds(void)
{
	char path[64], text[128];
	int tid = meshing_thread();

	if (!tid)
		die("no meshing thread");
	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
	if (read_text(path, text, sizeof(text)) <= 0)
		die("no %s", path);
	return strtod(text, NULL) / 1e9;
}

static unsigned char *make_object(size_t i)
{
	unsigned char *p = malloc(opt.size);

	if (!p)
		die("out of memory");
	payload_fill(p, opt.size, i);
	return p;
}

static void make_heap(void)
{
	size_t i;

	object = map_or_die(opt.objects * sizeof(*object));
	for (i = 0; i < opt.objects; i++)
		object[i] = make_object(i);
	for (i = 0; i < 100 && !meshing_thread(); i++)
		sleep_for(0.1);
	sleep_for(1);
}

static void free_some(unsigned long percent)
{
	size_t i;

	if (opt.free_percent != BY_MODE)
		percent = opt.free_percent;
	for (i = 0; i < opt.objects; i++) {
		if (mix(i) % 100 >= percent)
			continue;
		free(object[i]);
		object[i] = NULL;
	}
}

/* Until nothing was merged for two seconds. */
static long await_merges(long begun)
{
	long before, after = begun;
	unsigned int quiet = 0, i;

	for (i = 0; i < 1200 && (quiet < 20 || after == begun); i++) {
		sleep_for(0.1);
		before = after;
		after = merges();
		quiet = after == before ? quiet + 1 : 0;
	}
	return after - begun;
}

static void check(void)
{
	size_t i, wrong = 0;

	for (i = 0; i < opt.objects; i++)
		wrong += object[i] && !payload_ok(object[i], opt.size, i);
	if (wrong)
		die("%zu objects wrong", wrong);
}

static void merge(void)
{
	long begun = merges(), n;
	double before = thread_seconds(), spent;

	free_some(75);
	n = await_merges(begun);
	spent = thread_seconds() - before;
	check();
	printf("result: cpu_ms=%.1f merged=%ld ns_per_page=%.0f\n", spent * 1e3, n,
	       n ? spent * 1e9 / (double)n : 0);
}

/* Free one object and make another, again and again. */
static void replace_objects(double end)
{
	uint64_t r = 1;
	size_t i;

	while (now() < end) {
		for (i = 0; i < 1000; i++) {
			size_t victim = (r = mix(r)) % opt.objects;

			if (!object[victim])
				continue;
			free(object[victim]);
			object[victim] = make_object(victim);
		}
	}
}

static void watch(int churn)
{
	double before = thread_seconds(), begun = now(), spent;
	long merged = merges();

	if (churn)
		replace_objects(begun + opt.seconds);
	else
		sleep_for(opt.seconds);
	spent = thread_seconds() - before;
	check();
	printf("result: cpu_ms=%.3f merged=%ld percent=%.4f\n", spent * 1e3, merges() - merged,
	       spent * 100 / (now() - begun));
}

static const char usage[] =
	"usage: daemon-cost merge|idle|churn [--objects N] [--size BYTES]\n"
	"                   [--free PERCENT] [--seconds N]\n";

static const char *parse_options(int argc, char **argv)
{
	static const struct bench_option options[] = {
		{ "objects", .number = &opt.objects },
		{ "size", .number = &opt.size },
		{ "free", .number = &opt.free_percent },
		{ "seconds", .number = &opt.seconds },
		{ 0 }
	};
	int first = bench_options(argc, argv, options, usage);

	if (first + 1 != argc || !opt.objects)
		bench_misused(usage);
	return argv[first];
}

int main(int argc, char **argv)
{
	const char *what = parse_options(argc, argv);

	if (merges() < 0)
		die("not without the library");
	make_heap();
	if (!strcmp(what, "merge")) {
		merge();
	} else if (!strcmp(what, "idle")) {
		free_some(75);
		await_merges(merges());
		sleep_for(5);
		watch(0);
	} else if (!strcmp(what, "churn")) {
		free_some(0);
		watch(1);
	} else {
		bench_misused(usage);
	}
	return 0;
}
