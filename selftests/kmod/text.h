/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Files of one line that the kernel shows: settings, and the module's counters.
 */
#ifndef SELFTESTS_KMOD_TEXT_H
#define SELFTESTS_KMOD_TEXT_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNTERS	"/sys/class/misc/meshhelper/"

/* Set a setting; whether the kernel has taken all of it. */
static inline bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* A counter of the module; -1 if there is no such. */
static inline long long counter(const char *name)
{
	char path[128], value[32] = "";
	int fd, n;

	snprintf(path, sizeof(path), COUNTERS "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, value, sizeof(value) - 1);
	close(fd);
	return n > 0 ? atoll(value) : -1;
}

/* The number after @key in a file, or the first of all; -1 if there is none. */
static inline long long read_number(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	long long n = -1;
	char word[64];

	if (!f)
		return -1;
	while (key && fscanf(f, "%63s", word) == 1)
		if (!strcmp(word, key))
			break;
	if (fscanf(f, "%lld", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

static inline bool swap_is_on(void)
{
	return read_number("/proc/meminfo", "SwapTotal:") > 0;
}

#endif /* SELFTESTS_KMOD_TEXT_H */
