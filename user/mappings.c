/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Counting the lines of /proc/self/maps. Both files are opened each time: a program
 * may change its root, and the limit may be raised. The program makes mappings, too,
 * and ours disappear when spans die, so what is known is an estimate in between.
 */
#include <fcntl.h>

#include "mappings.h"
#include "os.h"
#include "proc.h"
#include "region.h"

/* An eighth of all mappings and this many are the program's. */
#define RESERVED	512

/* Between two counts: at least this, and this many times as long as one takes. */
#define COUNT_EVERY	(2 * 1000000000ULL)
#define COUNT_SHARE	50

static long limit;
static long estimate;
static long frontier;
static uint64_t count_again;

static int read_limit(void)
{
	long value = proc_number("/proc/sys/vm/max_map_count", "");

	limit = value - value / 8 - RESERVED;
	return value < 0 ? (int)value : 0;
}

static int count(void)
{
	static char buf[16384];
	uint64_t now, begun = os_now_ns();
	int fd = os_open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	long len, i, lines = 0;

	if (fd < 0)
		return fd;
	while ((len = os_read(fd, buf, sizeof(buf))) > 0)
		for (i = 0; i < len; i++)
			lines += buf[i] == '\n';
	os_close(fd);
	if (len < 0)
		return (int)len;
	estimate = lines;
	now = os_now_ns();
	count_again = now + COUNT_EVERY + COUNT_SHARE * (now - begun);
	return 0;
}

static int learn(void)
{
	int ret = read_limit();

	return ret ? ret : count();
}

/* A page can cost a mapping, at most. */
int mappings_open(void)
{
	int ret = learn();

	frontier = limit - estimate;
	return ret;
}

/* What is below the frontier may need some more, so go on by half of what is left. */
void mappings_refresh(void)
{
	if (os_now_ns() >= count_again && !learn() && estimate < limit)
		frontier += (limit - estimate) / 2;
}

static bool used_up(unsigned int n)
{
	return estimate + n > limit;
}

uint32_t mappings_frontier(void)
{
	if (frontier < 0 || used_up(MAPPINGS_OF_MERGE))
		return 0;
	return frontier < (long)AREA_PAGES ? (uint32_t)frontier : AREA_PAGES;
}

bool mappings_take(unsigned int n)
{
	if (used_up(n))
		return false;
	estimate += n;
	return true;
}
