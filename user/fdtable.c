/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * fdtable.c: a descriptor table that no other thread can see.
 *
 * close_range(2) unshares and empties the table in one call. Where it does not
 * exist (before Linux 5.9) or a seccomp filter does not know it, unshare(2) and
 * a loop over the numbers do.
 *
 * Threads: acts on the caller only.
 */
#define _GNU_SOURCE
#include <linux/close_range.h>
#include <sched.h>
#include <unistd.h>

#include "fdtable.h"
#include "os.h"
#include "proc.h"

static int make_private_slowly(bool keep_stderr)
{
	int fd, n, ret = os_unshare(CLONE_FILES);

	if (ret < 0)
		return ret;
	n = (int)proc_number("/proc/thread-self/status", "\nFDSize:");
	for (fd = 0; fd < n; fd++)
		if (fd != STDERR_FILENO || !keep_stderr)
			os_close(fd);
	return n < 0 ? n : 0;
}

int fdtable_make_private(bool keep_stderr)
{
	unsigned int first = keep_stderr ? STDERR_FILENO + 1 : 0;

	if (os_close_range(first, ~0U, CLOSE_RANGE_UNSHARE) < 0)
		return make_private_slowly(keep_stderr);
	if (keep_stderr) {
		os_close(STDIN_FILENO);
		os_close(STDOUT_FILENO);
	}
	return 0;
}
