/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* A disk to read from by direct I/O: one that nobody writes to. */
#ifndef SELFTESTS_KMOD_DISK_H
#define SELFTESTS_KMOD_DISK_H

#include "arena.h"

#include <glob.h>

/* Bytes at the start of the disk that the tests read. */
#define DISK_BYTES	(1UL << 20)

static inline bool disk_attribute(const char *sys, const char *name, const char *value)
{
	char path[256], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/%s", sys, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return !strncmp(text, value, strlen(value));
}

/* The virtual machine has got its files from the disk "job" and is done with it. */
static inline bool disk_is_quiet(const char *sys)
{
	return disk_attribute(sys, "ro", "1") || disk_attribute(sys, "device/serial", "job");
}

/* Such a disk, open with @flags added to O_RDONLY; -1 if there is none. */
static inline int disk_open(int flags)
{
	glob_t g = { 0 };
	int fd = -1;
	size_t i;

	if (glob("/sys/block/*", 0, NULL, &g))
		return -1;
	for (i = 0; i < g.gl_pathc && fd < 0; i++) {
		char path[256];

		if (!disk_is_quiet(g.gl_pathv[i]))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", strrchr(g.gl_pathv[i], '/') + 1);
		fd = open(path, O_RDONLY | O_CLOEXEC | flags);
	}
	globfree(&g);
	return fd;
}

/* What the start of the disk holds, as page cache reads see it. */
static inline char *disk_contents(void)
{
	int fd = disk_open(0);
	char *data = malloc(DISK_BYTES);

	if (fd < 0 || !data || pread(fd, data, DISK_BYTES, 0) != (ssize_t)DISK_BYTES)
		die("reading the disk");
	close(fd);
	return data;
}

#endif /* SELFTESTS_KMOD_DISK_H */
