/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * asleep.h: whether threads of this process wait on futexes. A thread that says so itself
 * does so before it waits; the kernel knows better.
 */
#ifndef SELFTESTS_PROGRAMS_ASLEEP_H
#define SELFTESTS_PROGRAMS_ASLEEP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The file has the number of the system call that the thread is blocked in. */
static inline int waits_on_futex(const char *tid)
{
	char path[64];
	long nr = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/syscall", tid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fscanf(f, "%ld", &nr) != 1)
		nr = -1;
	fclose(f);
	return nr == SYS_futex;
}

static inline unsigned int count_asleep(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned int n = 0;

	while (dir && (entry = readdir(dir)))
		n += (unsigned int)waits_on_futex(entry->d_name);
	if (dir)
		closedir(dir);
	return n;
}

/* Wait until @n threads wait; the program ends if they do not within two minutes. */
static inline void await_asleep(unsigned int n)
{
	unsigned int i;

	for (i = 0; count_asleep() < n; i++) {
		if (i == 1200) {
			printf("%u threads wait, not %u\n", count_asleep(), n);
			exit(2);
		}
		usleep(100000);
	}
}

#endif /* SELFTESTS_PROGRAMS_ASLEEP_H */
