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
static int pressure;

static int poll_open(int kick_fd, int pressure_fd)
{
	kick = kick_fd;
	pressure = pressure_fd;
	return 0;
}

static void poll_close(void)
{
	kick = -1;
	pressure = -1;
}

static int poll_wait(uint64_t ns, bool watch)
{
	struct pollfd fds[] = {
		{ .fd = kick, .events = POLLIN },
		{ .fd = watch ? pressure : -1, .events = POLLPRI },
	};
	int ret = os_poll(fds, 2, ns);

	if (ret == -EINTR)
		return 0;
	if (ret < 0)
		return ret;
	if (!ret)
		return LOOP_TIMER;
	return (fds[0].revents ? LOOP_KICK : 0) | loop_pressure_bits(fds[1].revents);
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
