/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Counting the lines of /proc/self/maps. Both files are opened each time: a program
 * may change its root, and the limit may be raised.
 */
#include <fcntl.h>

#include "mappings.h"
#include "os.h"
#include "proc.h"

/* An eighth of all mappings and this many are the program's. */
#define RESERVED	512

/* Between two counts: at least this, and this many times as long as one takes. */
#define COUNT_EVERY	(2 * 1000000000ULL)
#define COUNT_SHARE	50

static long limit;
static long estimate;
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

int mappings_open(void)
{
	int ret = read_limit();

	return ret ? ret : count();
}

/* The program makes mappings, too, and ours disappear when spans die. */
bool mappings_take(unsigned int n)
{
	if (os_now_ns() >= count_again && mappings_open())
		return false;
	if (estimate + n > limit)
		return false;
	estimate += n;
	return true;
}
