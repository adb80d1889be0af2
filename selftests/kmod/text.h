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

/**
 * struct setting - one that a test changes and puts back
 * @path: its file, or NULL if it is as it was
 * @was: what it was, the word in brackets where there is a choice of some
 */
struct setting {
	const char *path;
	char was[32];
};

static inline bool save_setting(struct setting *s, const char *path)
{
	char line[256] = "", *word = line;
	FILE *f = fopen(path, "re");

	if (!f || !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	if (strchr(line, '['))
		word = strchr(line, '[') + 1;
	word[strcspn(word, "]\n")] = '\0';
	if (!*word || strlen(word) >= sizeof(s->was))
		return false;
	strcpy(s->was, word);
	s->path = path;
	return true;
}

static inline bool restore_setting(struct setting *s)
{
	const char *path = s->path;

	s->path = NULL;
	return !path || write_text(path, s->was);
}

#define OVERCOMMIT	"/proc/sys/vm/overcommit_"

/* What may be committed is either a number of kilobytes or, if that is 0, a part of the memory. */
static inline bool save_commit_limit(struct setting *limit)
{
	return save_setting(limit, OVERCOMMIT "kbytes") &&
	       (strcmp(limit->was, "0") || save_setting(limit, OVERCOMMIT "ratio"));
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
