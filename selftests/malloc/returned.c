// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Memory that is no longer needed goes back to the system by itself, while the program
 * does nothing: after large objects were freed, and after they were made smaller.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#define OBJECTS	200
#define LARGE	500000
#define SMALL	40000
#define MIB	(1L << 20)

static long resident(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long size, pages;

	CHECK(f && fscanf(f, "%ld %ld", &size, &pages) == 2);
	fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

static void expect_below(long limit)
{
	for (int i = 0; i < 100 && resident() > limit; i++)
		usleep(100000);
	if (resident() > limit)
		fprintf(stderr, "%ld MiB resident, not below %ld\n", resident() / MIB,
			limit / MIB);
	CHECK(resident() <= limit);
}

int main(void)
{
	static char *object[OBJECTS];

	for (int i = 0; i < OBJECTS; i++) {
		object[i] = malloc(LARGE);
		CHECK(object[i]);
		memset(object[i], i, LARGE);
	}
	CHECK(resident() > OBJECTS / 2L * LARGE);
	for (int i = 0; i < OBJECTS; i++) {
		object[i] = realloc(object[i], SMALL);
		CHECK(object[i]);
	}
	expect_below(OBJECTS * (SMALL + 8192L) + 8 * MIB);
	for (int i = 0; i < OBJECTS; i++) {
		CHECK(object[i][SMALL - 1] == (char)i);
		free(object[i]);
	}
	expect_below(12 * MIB);
	return 0;
}
