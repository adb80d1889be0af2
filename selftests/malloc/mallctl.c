/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* mesh_mallctl(): every name, every error, and values that follow what the program does. */
#define _GNU_SOURCE
#include <errno.h>
#include <mesh.h>
#include <string.h>

#include "check.h"

#pragma weak mesh_mallctl

#define BLOCK	(64UL << 20)

/* Linux counts what is resident by processor, and says what it knows without asking them all. */
#define INEXACT	(2UL << 20)

static size_t get(const char *name)
{
	size_t value = 0, len = sizeof(value);

	CHECK(mesh_mallctl(name, &value, &len, NULL, 0) == 0);
	return value;
}

static int set(const char *name, size_t value)
{
	return mesh_mallctl(name, NULL, NULL, &value, sizeof(value));
}

static void check_errors(void)
{
	size_t value, len = 4;
	uint32_t small = 5;

	errno = 12345;
	CHECK(mesh_mallctl("stats.nonsense", NULL, NULL, NULL, 0) == ENOENT);
	CHECK(mesh_mallctl("", NULL, NULL, NULL, 0) == ENOENT);
	CHECK(mesh_mallctl("stats.mapped", &value, NULL, NULL, 0) == EINVAL);
	CHECK(mesh_mallctl("stats.mapped", &value, &len, NULL, 0) == EINVAL);
	CHECK(set("stats.mapped", 1) == EPERM);
	CHECK(mesh_mallctl("mesh.check_period", NULL, NULL, &small, sizeof(small)) == EINVAL);
	CHECK(set("mesh.check_period", 0) == EINVAL);
	CHECK(set("mesh.check_period", 1UL << 40) == EINVAL);
	CHECK(get("mesh.check_period") == 100);
	CHECK(mesh_mallctl("stats.mapped", NULL, NULL, NULL, 0) == 0);
	CHECK(errno == 12345);
}

static void check_period(void)
{
	size_t old = 0, new = 250, len = sizeof(old);

	CHECK(mesh_mallctl("mesh.check_period", &old, &len, &new, sizeof(new)) == 0);
	CHECK(old == 100);
	CHECK(get("mesh.check_period") == 250);
}

static void check_values(void)
{
	size_t allocated = get("stats.allocated"), active = get("stats.active");
	size_t mapped = get("stats.mapped"), resident = get("stats.resident");
	char *p = malloc(BLOCK);

	CHECK(p != NULL);
	CHECK(get("stats.allocated") >= allocated + BLOCK);
	CHECK(get("stats.active") >= active + BLOCK);
	CHECK(get("stats.mapped") >= mapped + BLOCK);
	CHECK(get("stats.resident") < resident + BLOCK / 2);
	memset(p, 1, BLOCK);
	CHECK(get("stats.resident") + INEXACT >= resident + BLOCK);
	CHECK(get("stats.resident") <= get("stats.mapped") + (32UL << 20));
	free(p);
	CHECK(mesh_mallctl("mesh.scavenge", NULL, NULL, NULL, 0) == 0);
	CHECK(get("stats.allocated") <= allocated + 65536);
	CHECK(get("stats.resident") <= resident + (4UL << 20));
}

/* Small objects of which few are left: their pages go back when the control says so. */
static void check_scavenge(void)
{
	enum { NR = 200000, SIZE = 256 };
	static char *p[NR];
	size_t before, full;

	before = get("stats.resident");
	for (int i = 0; i < NR; i++) {
		p[i] = malloc(SIZE);
		memset(p[i], i, SIZE);
	}
	full = get("stats.resident");
	CHECK(full + INEXACT >= before + (size_t)NR * SIZE);
	for (int i = 0; i < NR; i++)
		free(p[i]);
	/* What earlier versions of Mesh want to be given along. */
	CHECK(get("mesh.scavenge") == 0);
	CHECK(get("stats.resident") <= before + (8UL << 20));
	CHECK(mesh_mallctl("mesh.compact", NULL, NULL, NULL, 0) == 0);
	CHECK(get("stats.meshed") <= get("stats.mapped"));
	CHECK(get("mesh.merges") == 0 || get("stats.mapped") > 0);
}

int main(void)
{
	CHECK(mesh_mallctl != NULL);
	check_errors();
	check_period();
	check_values();
	check_scavenge();
	return 0;
}
