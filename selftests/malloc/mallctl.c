/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* mesh_mallctl(): every name, every error, and values that follow what the program does. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <mesh.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "check.h"

#pragma weak mesh_mallctl

#define BLOCK	(64UL << 20)

/* Linux counts what is resident by processor, and says what it knows without asking them all. */
#define INEXACT	(2UL << 20)

#define NR	200000
#define SIZE	256

static char *objects[NR];

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

static void allocate_all(void)
{
	for (int i = 0; i < NR; i++) {
		objects[i] = malloc(SIZE);
		memset(objects[i], i, SIZE);
	}
}

/* All but one in @share, or all if that is 0. */
static void free_most(unsigned int share)
{
	uint64_t state = 1;

	for (int i = 0; i < NR; i++) {
		if (share && next_random(&state) % share == 0)
			continue;
		free(objects[i]);
		objects[i] = NULL;
	}
}

/* Small objects that are gone: their pages go back when the control says so. */
static void check_scavenge(void)
{
	size_t before = get("stats.resident");

	allocate_all();
	CHECK(get("stats.resident") + INEXACT >= before + (size_t)NR * SIZE);
	free_most(0);
	/* What earlier versions of Mesh want to be given along. */
	CHECK(get("mesh.scavenge") == 0);
	CHECK(get("stats.resident") <= before + (8UL << 20));
}

/* The module, or a userfaultfd that serves faults of system calls and moves pages. */
static bool can_mesh(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = 1 << 16 /* MOVE, Linux 6.8 */ };
	int fd = open("/dev/meshhelper", O_RDWR | O_CLOEXEC);
	bool can = fd >= 0;

	if (!can) {
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
		can = fd >= 0 && !ioctl(fd, UFFDIO_API, &api);
	}
	if (fd >= 0)
		close(fd);
	return can;
}

/* Small objects of which few are left share their pages when the control says so. */
static void check_compact(void)
{
	bool can = can_mesh();

	allocate_all();
	free_most(8);
	/* it waits for five seconds at most, which a busy machine may exceed */
	for (int i = 0; i < 8; i++) {
		CHECK(mesh_mallctl("mesh.compact", NULL, NULL, NULL, 0) == 0);
		if (!can || get("mesh.merges") > 0)
			break;
		sleep(1);
	}
	CHECK(!can || (get("mesh.merges") > 0 && get("stats.meshed") > 0));
	CHECK(get("stats.meshed") <= get("stats.mapped"));
	free_most(0);
}

int main(void)
{
	CHECK(mesh_mallctl != NULL);
	check_errors();
	check_period();
	check_values();
	check_scavenge();
	check_compact();
	return 0;
}
