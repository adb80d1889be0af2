/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * loop.h: what the daemon waits on, and how it purges.
 *
 * Two implementations keep the same contract: loop_uring, one io_uring for
 * everything, and loop_poll, ppoll(2) and madvise(2), for where io_uring is
 * forbidden.
 *
 * Threads: the daemon's only. Each loop has one static instance; after a fork
 * the child opens it anew and never looks at what the parent left there.
 */
#ifndef MESH_LOOP_H
#define MESH_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os.h"

/* What loop_ops.wait() saw; several may be set. */
#define LOOP_TIMER	(1 << 0)
#define LOOP_KICK	(1 << 1)
#define LOOP_PRESSURE	(1 << 2)	/* memory is short */
#define LOOP_UNWATCHED	(1 << 3)	/* nobody will tell any more whether it is */

/* A wait without a timer. */
#define LOOP_FOREVER	OS_FOREVER

/**
 * struct loop_purge - one madvise(2) of a batch
 * @addr: start of the range
 * @len: bytes
 * @result: written back: 0 or -errno
 */
struct loop_purge {
	void *addr;
	size_t len;
	int result;
};

/**
 * struct loop_ops - one way to wait
 * @name: as in MESH_LOOP and in messages
 * @open: prepare to wait for @kick_fd to become readable and for @pressure_fd, from
 *	pressure_open() or -1, to have POLLPRI; 0 or -errno
 * @wait: sleep until @kick_fd is readable or @ns have passed or, if @pressure is set,
 *	@pressure_fd has had an event; LOOP_* bits, or -errno if the loop is broken. The
 *	caller empties @kick_fd. May return 0
 * @purge: do every madvise of the batch, fill in every result
 * @close: undo open
 */
struct loop_ops {
	const char *name;
	int (*open)(int kick_fd, int pressure_fd);
	int (*wait)(uint64_t ns, bool pressure);
	void (*purge)(struct loop_purge *p, unsigned int n, int advice);
	void (*close)(void);
};

/* What a poll of the pressure descriptor means. */
static inline int loop_pressure_bits(int events)
{
	if (events & (POLLERR | POLLHUP | POLLNVAL))
		return LOOP_UNWATCHED;
	return events & POLLPRI ? LOOP_PRESSURE : 0;
}

extern const struct loop_ops loop_uring;
extern const struct loop_ops loop_poll;

#endif /* MESH_LOOP_H */
