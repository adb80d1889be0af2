/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Large blocks: memory is touched by whoever asked for it and by nobody else, growing does not
 * double it, and it goes back to the system when it is not used again.
 */
#include <string.h>
#include <time.h>

#include "check.h"

#define MIB	((size_t)1 << 20)

static size_t resident(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f && fscanf(f, "%*u %lu", &pages) == 1);
	fclose(f);
	return pages * 4096;
}

static void check_untouched(size_t size)
{
	size_t before = resident();
	char *p = malloc(size), *q = calloc(1, size);

	CHECK(p && q);
	CHECK(resident() < before + MIB);
	CHECK(q[0] == 0 && q[size / 2] == 0 && q[size - 1] == 0);
	free(p);
	free(q);
}

/* With something behind it now and then, so that it has to move. */
static void check_growth(void)
{
	size_t before = resident(), size = MIB;
	char *p = malloc(size), *behind;

	memset(p, 3, size);
	for (size_t to = size; to < 160 * MIB; to += to / 2) {
		behind = malloc(MIB);
		p = realloc(p, to);
		CHECK(p);
		if (to > size)
			memset(p + size, 3, to - size);
		size = to > size ? to : size;
		free(behind);
	}
	for (size_t i = 0; i < size; i += 1000)
		CHECK(p[i] == 3);
	CHECK(resident() < before + size + size / 2);
	free(p);
}

/* What a second has left unused is the daemon's business; it looks four times in it. */
static void check_returned(void)
{
	const struct timespec rest = { 0, 100000000 };
	size_t before = resident();
	char *p = malloc(30 * MIB);
	int i;

	memset(p, 1, 30 * MIB);
	CHECK(resident() > before + 29 * MIB);
	free(p);
	for (i = 0; i < 200 && resident() > before + 2 * MIB; i++)
		nanosleep(&rest, NULL);
	CHECK(i < 200);
}

/* Used again at once, but calloc's are zero. */
static void check_reused(void)
{
	for (size_t size = MIB / 4; size <= 64 * MIB; size *= 4) {
		char *p = malloc(size);

		memset(p, 0xaa, size);
		free(p);
		p = calloc(1, size);
		for (size_t i = 0; i < size; i += 500)
			CHECK(p[i] == 0);
		free(p);
	}
}

/* Blocks that lie behind each other and grow by turns: few of the steps are copies. */
static void check_turns(void)
{
	enum { NR = 31 };
	char *p[NR] = { NULL };
	unsigned int moves = 0, steps = 0;

	for (size_t size = MIB / 16; size <= 8 * MIB; size += MIB / 16)
		for (int i = 0; i < NR; i++) {
			char *old = p[i];

			p[i] = realloc(old, size);
			CHECK(p[i] != NULL);
			moves += p[i] != old;
			steps++;
		}
	CHECK(moves < steps / 4);
	for (int i = 0; i < NR; i++)
		free(p[i]);
}

/* More than one area can hold, of blocks that are not touched. */
static void check_many(void)
{
	enum { NR = 17000 };
	static void *p[NR];
	size_t size = 32 * MIB;
	int n = 0;

	while (n < NR && (p[n] = malloc(size)))
		n++;
	CHECK(n == NR);
	p[0] = realloc(p[NR - 1], size + 4096);
	CHECK(p[0] != NULL);
	free(p[0]);
	for (int i = 1; i < NR - 1; i++)
		free(p[i]);
}

int main(void)
{
	check_untouched(30 * MIB);
	check_untouched(1024 * MIB);
	check_returned();
	check_growth();
	check_reused();
	check_turns();
	check_many();
	return 0;
}
