/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * /proc/self/pagemap. The frame numbers in it are hidden from all but root; the
 * bits used here are not.
 */
#include <fcntl.h>

#include "compiler.h"
#include "os.h"
#include "pagemap.h"

#define PRESENT		(1ULL << 63)
#define SWAPPED		(1ULL << 62)
#define FILE_PAGE	(1ULL << 61)
#define EXCLUSIVE	(1ULL << 56)

/* Entries read at once. */
#define MAX_PAGES	16

static int fd = -1;

int pagemap_open(void)
{
	fd = os_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? fd : 0;
}

void pagemap_close(void)
{
	if (fd >= 0)
		os_close(fd);
	fd = -1;
}

/* The entries of @n pages; whether there are any. */
static bool read_entries(uintptr_t addr, size_t n, uint64_t *e)
{
	return n <= MAX_PAGES &&
	       os_read_at(fd, e, n * sizeof(*e), (addr >> PAGE_SHIFT) * sizeof(*e)) ==
		       (long)(n * sizeof(*e));
}

bool pagemap_all_file(uintptr_t addr, size_t len)
{
	uint64_t e[MAX_PAGES], both = PRESENT | FILE_PAGE;
	size_t i, n = len >> PAGE_SHIFT;

	if (!read_entries(addr, n, e))
		return false;
	for (i = 0; i < n; i++)
		if ((e[i] & both) != both)
			return false;
	return true;
}

bool pagemap_none_shared(uintptr_t addr, size_t len)
{
	uint64_t e[MAX_PAGES];
	size_t i, n = len >> PAGE_SHIFT;

	if (!read_entries(addr, n, e))
		return false;
	for (i = 0; i < n; i++)
		if (e[i] & SWAPPED || (e[i] & (PRESENT | EXCLUSIVE)) == PRESENT)
			return false;
	return true;
}
