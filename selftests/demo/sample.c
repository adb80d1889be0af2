// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * sample: write the memory use of one process to a CSV file until it ends.
 *
 *	sample PID CGROUP SYSFS PERIOD_MS >out.csv
 *
 * PSS and RSS come from /proc/PID/smaps_rollup, the cgroup's from memory.current,
 * the pages meshed from the module's counters; a file that does not exist counts
 * as 0. Times are seconds since boot, so that a script can relate them to
 * /proc/uptime. One thread, no state between samples.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Return: bytes read, 0 if the file cannot be read. */
static size_t slurp(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return 0;
	n = read(fd, text, size - 1);
	close(fd);
	if (n < 0)
		return 0;
	text[n] = '\0';
	return (size_t)n;
}

static long number_in(const char *dir, const char *name)
{
	char path[PATH_MAX], text[64];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return slurp(path, text, sizeof(text)) ? strtol(text, NULL, 10) : 0;
}

static long field_kb(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtol(at + strlen(name), NULL, 10) : 0;
}

static double uptime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Return: 0 once the process is gone. */
static int sample(const char *rollup, const char *cgroup, const char *sysfs)
{
	char text[4096];

	if (!slurp(rollup, text, sizeof(text)))
		return 0;
	printf("%.3f,%ld,%ld,%ld,%ld\n", uptime(), field_kb(text, "\nPss:"),
	       field_kb(text, "\nRss:"), number_in(cgroup, "memory.current") >> 10,
	       number_in(sysfs, "pages_meshed"));
	fflush(stdout);
	return 1;
}

int main(int argc, char **argv)
{
	struct timespec period;
	char rollup[64];
	long ms;

	if (argc != 5) {
		fputs("usage: sample PID CGROUP SYSFS PERIOD_MS\n", stderr);
		return 2;
	}
	ms = atol(argv[4]);
	period.tv_sec = ms / 1000;
	period.tv_nsec = ms % 1000 * 1000000;
	snprintf(rollup, sizeof(rollup), "/proc/%ld/smaps_rollup", atol(argv[1]));

	puts("seconds,pss_kb,rss_kb,cgroup_kb,pages_meshed");
	while (sample(rollup, argv[2], argv[3]))
		nanosleep(&period, NULL);
	return 0;
}
