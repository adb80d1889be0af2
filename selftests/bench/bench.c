// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Shared parts of the load programs, see bench.h. No state, callable from any
 * thread.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "mesh.h"

/* It is there when libmesh is preloaded. */
#pragma weak mesh_mallctl

double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void sleep_for(double seconds)
{
	struct timespec ts = { .tv_sec = (time_t)seconds };

	ts.tv_nsec = (long)((seconds - (double)ts.tv_sec) * 1e9);
	nanosleep(&ts, NULL);
}

long merges(void)
{
	size_t n, len = sizeof(n);

	if (!mesh_mallctl || mesh_mallctl("mesh.merges", &n, &len, NULL, 0))
		return -1;
	return (long)n;
}

int await_merge(double seconds)
{
	double end = now() + seconds;

	while (merges() == 0 && now() < end)
		sleep_for(0.1);
	return merges() > 0;
}

/* Word @i of the payload of @seed. */
static uint64_t word_of(uint64_t seed, size_t i)
{
	return mix(seed + i);
}

void payload_fill(void *p, size_t len, uint64_t seed)
{
	char *to = p;
	uint64_t word;
	size_t i;

	for (i = 0; len >= sizeof(word); i++, len -= sizeof(word), to += sizeof(word)) {
		word = word_of(seed, i);
		memcpy(to, &word, sizeof(word));
	}
	word = word_of(seed, i);
	memcpy(to, &word, len);
}

int payload_ok(const void *p, size_t len, uint64_t seed)
{
	const char *from = p;
	uint64_t word;
	size_t i;

	for (i = 0; len >= sizeof(word); i++, len -= sizeof(word), from += sizeof(word)) {
		word = word_of(seed, i);
		if (memcmp(from, &word, sizeof(word)))
			return 0;
	}
	word = word_of(seed, i);
	return !memcmp(from, &word, len);
}

static long field_kb(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtol(at + strlen(name), NULL, 10) : 0;
}

void memory_read_of(pid_t pid, struct memory *m)
{
	char path[64], text[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	memset(m, 0, sizeof(*m));
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return;
	text[n] = '\0';
	m->pss_kb = field_kb(text, "\nPss:");
	m->rss_kb = field_kb(text, "\nRss:");
}

void memory_read(struct memory *m)
{
	memory_read_of(getpid(), m);
}

long mappings(void)
{
	char text[4096];
	ssize_t n, i;
	long lines = 0;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	while ((n = read(fd, text, sizeof(text))) > 0) {
		for (i = 0; i < n; i++)
			lines += text[i] == '\n';
	}
	close(fd);
	return lines;
}

void *map_or_die(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap of %zu bytes: %s", len, strerror(errno));
	return p;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(double *values, unsigned int n)
{
	qsort(values, n, sizeof(*values), compare_doubles);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

void die(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

void bench_misused(const char *usage)
{
	fputs(usage, stderr);
	exit(2);
}

/* Is all of the text the option's value? */
static int take_value(const struct bench_option *o, const char *text)
{
	char *end = "";

	if (o->number)
		*o->number = strtoul(text, &end, 10);
	else if (o->seconds)
		*o->seconds = strtod(text, &end);
	else
		*o->word = text;
	return *text && *text != '-' && !*end;
}

#define MAX_OPTIONS	16

int bench_options(int argc, char **argv, const struct bench_option *options, const char *usage)
{
	/* one more for --help, and one for the end */
	struct option known[MAX_OPTIONS + 2] = { 0 };
	int n, c, i;

	for (n = 0; options[n].name && n < MAX_OPTIONS; n++)
		known[n] = (struct option) {
			.name = options[n].name,
			.has_arg = options[n].flag ? no_argument : required_argument,
			.flag = options[n].flag,
			.val = options[n].flag ? 1 : 0,
		};
	known[n].name = "help";
	opterr = 0;
	while ((c = getopt_long(argc, argv, "", known, &i)) != -1) {
		if (c == '?' || (i < n && !options[i].flag && !take_value(&options[i], optarg)))
			bench_misused(usage);
		if (i == n) {
			fputs(usage, stdout);
			exit(0);
		}
	}
	return optind;
}
