/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * loop_uring.c: the daemon's loop on one io_uring.
 *
 * One poll request for each descriptor is kept in flight; when it completes a later
 * wait() submits another. The period is the timeout of the wait itself,
 * so an expired timer leaves nothing behind in the ring. Purges are queued as
 * IORING_OP_MADVISE and reaped together; the kernel runs them on its own worker
 * threads, several at a time.
 *
 * user_data is KICK_TAG or PRESSURE_TAG for a poll and an index into the batch for a
 * purge.
 *
 * Threads: the daemon's. The ring's mappings are not inherited by a child.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdbool.h>

#include "loop.h"
#include "os.h"

#define RING_ENTRIES	64
#define KICK_TAG	UINT64_MAX
#define PRESSURE_TAG	(UINT64_MAX - 1)

static struct io_uring ring;

/**
 * struct watch - one descriptor that is polled
 * @fd: descriptor, or -1
 * @events: poll(2) events to wait for
 * @seen: what has happened and was not reported yet
 * @armed: a poll request is in flight
 */
struct watch {
	int fd;
	short events;
	int seen;
	bool armed;
};

static struct watch kick, pressure;

/* The ring has failed us: 0, or the -errno that wait() reports. */
static int broken;

static int uring_open(int kick_fd, int pressure_fd)
{
	struct io_uring_params p = { 0 };
	int ret = io_uring_queue_init_params(RING_ENTRIES, &ring, &p);

	if (ret)
		return ret;
	/* Without it liburing would build its timeouts out of extra requests. */
	if (!(p.features & IORING_FEAT_EXT_ARG)) {
		io_uring_queue_exit(&ring);
		return -EOPNOTSUPP;
	}
	io_uring_ring_dontfork(&ring);
	kick = (struct watch){ .fd = kick_fd, .events = POLLIN };
	pressure = (struct watch){ .fd = pressure_fd, .events = POLLPRI };
	broken = 0;
	return 0;
}

static void uring_close(void)
{
	io_uring_queue_exit(&ring);
}

static void polled(struct watch *w, int res)
{
	w->armed = false;
	if (res < 0)
		broken = res;
	else
		w->seen |= res;
}

/* Note what the completions mean; how many of them were purges of @batch. */
static unsigned int reap(struct loop_purge *batch)
{
	struct io_uring_cqe *cqe;
	unsigned int head, seen = 0, purges = 0;

	io_uring_for_each_cqe(&ring, head, cqe) {
		seen++;
		if (cqe->user_data == KICK_TAG) {
			polled(&kick, cqe->res);
		} else if (cqe->user_data == PRESSURE_TAG) {
			polled(&pressure, cqe->res);
		} else {
			batch[cqe->user_data].result = cqe->res;
			purges++;
		}
	}
	io_uring_cq_advance(&ring, seen);
	return purges;
}

static int arm(struct watch *w, uint64_t tag)
{
	struct io_uring_sqe *sqe;
	int ret;

	if (w->armed || w->seen || w->fd < 0)
		return 0;
	sqe = io_uring_get_sqe(&ring);
	if (!sqe)
		return -EBUSY;
	io_uring_prep_poll_add(sqe, w->fd, w->events);
	io_uring_sqe_set_data64(sqe, tag);
	ret = io_uring_submit(&ring);
	if (ret < 0)
		return ret;
	w->armed = true;
	return 0;
}

/* LOOP_* bits of what was seen, which is now reported. */
static int report(bool watch)
{
	int events = kick.seen ? LOOP_KICK : 0;

	kick.seen = 0;
	if (watch) {
		events |= loop_pressure_bits(pressure.seen);
		pressure.seen = 0;
	}
	return events;
}

static int uring_wait(uint64_t ns, bool watch)
{
	struct __kernel_timespec ts = {
		.tv_sec = ns / 1000000000,
		.tv_nsec = ns % 1000000000,
	};
	struct io_uring_cqe *cqe;
	int ret = 0, events = 0;

	if (!broken)
		broken = arm(&kick, KICK_TAG);
	if (!broken && watch)
		broken = arm(&pressure, PRESSURE_TAG);
	if (!broken && !kick.seen && !(watch && pressure.seen))
		ret = io_uring_wait_cqe_timeout(&ring, &cqe,
						ns == LOOP_FOREVER ? NULL : &ts);
	if (ret == -ETIME)
		events = LOOP_TIMER;
	else if (ret && ret != -EINTR && ret != -EAGAIN)
		broken = ret;
	reap(NULL);
	return broken ? broken : events | report(watch);
}

/* Hand the requests in the submission queue to the kernel; how many it took. */
static unsigned int submit_all(unsigned int n)
{
	unsigned int taken = 0;

	while (taken < n) {
		int ret = io_uring_submit(&ring);

		if (ret == -EINTR)
			continue;
		if (ret <= 0) {
			broken = ret ? ret : -EIO;
			break;
		}
		taken += ret;
	}
	return taken;
}

/*
 * Wait for @n purges. There is no giving up: a request that were still running
 * when its range is handed out again would destroy live data.
 */
static void reap_all(struct loop_purge *batch, unsigned int n)
{
	struct io_uring_cqe *cqe;

	n -= reap(batch);
	while (n) {
		int ret = io_uring_wait_cqe(&ring, &cqe);

		if (ret && ret != -EINTR)
			os_sleep_ns(1000000);
		n -= reap(batch);
	}
}

/* The length of IORING_OP_MADVISE is only 32 bits wide. */
static bool fits(const struct loop_purge *p)
{
	return p->len <= UINT32_MAX;
}

static void purge_by_hand(struct loop_purge *p, int advice)
{
	p->result = os_madvise(p->addr, p->len, advice);
}

/* One ring full of requests. */
static void purge_some(struct loop_purge *p, unsigned int n, int advice)
{
	unsigned int i, taken;

	for (i = 0; i < n; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_madvise(sqe, p[i].addr, p[i].len, advice);
		io_uring_sqe_set_data64(sqe, i);
	}
	taken = submit_all(n);
	reap_all(p, taken);
	/*
	 * The ring keeps what it did not take, and is closed: it is broken. What it
	 * took may have failed for want of a kernel thread to do it.
	 */
	for (i = 0; i < n; i++)
		if (i >= taken || p[i].result)
			purge_by_hand(&p[i], advice);
}

static void uring_purge(struct loop_purge *p, unsigned int n, int advice)
{
	while (n) {
		unsigned int some = 0;

		while (!broken && some < n && some < RING_ENTRIES &&
		       fits(&p[some]))
			some++;
		if (some) {
			purge_some(p, some, advice);
		} else {
			some = 1;
			purge_by_hand(p, advice);
		}
		p += some;
		n -= some;
	}
}

const struct loop_ops loop_uring = {
	.name = "uring",
	.open = uring_open,
	.wait = uring_wait,
	.purge = uring_purge,
	.close = uring_close,
};
