/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Reading /proc without stdio. Threads: any, no state.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "os.h"
#include "proc.h"

static long parse(const char *p)
{
	long n = 0;

	while (*p == ' ' || *p == '\t')
		p++;
	for (; *p >= '0' && *p <= '9'; p++)
		n = n * 10 + (*p - '0');
	return n;
}

long proc_read(const char *path, char *text, size_t size)
{
	int fd = os_open(path, O_RDONLY | O_CLOEXEC);
	long len;

	if (fd < 0)
		return fd;
	len = os_read(fd, text, size - 1);
	os_close(fd);
	if (len >= 0)
		text[len] = '\0';
	return len;
}

long proc_number(const char *path, const char *key)
{
	char text[4096], *p;
	long len = proc_read(path, text, sizeof(text));

	if (len < 0)
		return len;
	p = strstr(text, key);
	return p ? parse(p + strlen(key)) : -ENODATA;
}

/* The state comes behind the name, which is in parentheses, and the status last. */
int proc_main_status(void)
{
	char text[4096], *p = NULL;
	long status;

	if (proc_read("/proc/self/stat", text, sizeof(text)) > 0)
		p = strrchr(text, ')');
	if (!p || strncmp(p, ") Z ", 4) != 0)
		return -1;
	status = parse(strrchr(p, ' '));
	return (int)(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
}
