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
#define FILE_PAGE	(1ULL << 61)

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

bool pagemap_all_file(uintptr_t addr, size_t len)
{
	uint64_t e[MAX_PAGES], both = PRESENT | FILE_PAGE;
	size_t i, n = len >> PAGE_SHIFT;

	if (n > MAX_PAGES ||
	    os_read_at(fd, e, n * sizeof(*e), (addr >> PAGE_SHIFT) * sizeof(*e)) !=
		    (long)(n * sizeof(*e)))
		return false;
	for (i = 0; i < n; i++)
		if ((e[i] & both) != both)
			return false;
	return true;
}
