/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * loop_poll.c: the daemon's loop on ppoll(2) and madvise(2).
 *
 * For kernels, containers and seccomp filters that refuse io_uring. The same
 * contract as loop_uring.c, one system call at a time.
 *
 * Threads: the daemon's.
 */
#include <errno.h>

#include "loop.h"
#include "os.h"

static int kick;

static int poll_open(int kick_fd)
{
	kick = kick_fd;
	return 0;
}

static void poll_close(void)
{
	kick = -1;
}

static int poll_wait(uint64_t ns)
{
	int ret = os_poll_in(kick, ns);

	if (ret == -EINTR)
		return 0;
	if (ret < 0)
		return ret;
	return ret ? LOOP_KICK : LOOP_TIMER;
}

static void poll_purge(struct loop_purge *p, unsigned int n, int advice)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		p[i].result = os_madvise(p[i].addr, p[i].len, advice);
}

const struct loop_ops loop_poll = {
	.name = "poll",
	.open = poll_open,
	.wait = poll_wait,
	.purge = poll_purge,
	.close = poll_close,
};
