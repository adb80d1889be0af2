// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Several requests in flight, while their process goes on, forks, cancels them, closes the
 * ring or dies.
 *
 * Commands in flight together are done in any order. For the model to be exact they are
 * linked, or no two of them have pairs with the same frame; and until they are done, nobody
 * writes to what shows one of their frames.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#define MAX_COMMANDS	4
#define MAX_CLAIMS	(MAX_COMMANDS * MAX_BATCH * 2 * MESHHELPER_MAX_SPAN_PAGES)
#define RW		(PROT_READ | PROT_WRITE)

/* No result yet; and what no command saves. */
#define PENDING		1
#define UNREPORTED	UINT64_MAX

/**
 * struct command - a MERGE request
 * @pairs: its pairs
 * @nr: how many
 * @batch: argument of the command
 * @result: of the completion, PENDING before
 */
struct command {
	struct meshhelper_pair pairs[MAX_BATCH];
	unsigned int nr;
	struct meshhelper_batch batch;
	int result;
};

/**
 * struct flight - commands that are submitted together
 * @command: the commands
 * @nr: how many
 * @mode: MESHHELPER_MERGE_*
 * @linked: each is begun when the one before is done
 * @cancelled: some may end early, or not be done at all
 */
struct flight {
	struct command command[MAX_COMMANDS];
	unsigned int nr;
	uint32_t mode;
	bool linked;
	bool cancelled;
};

static struct flight flight;

/* Frames that are in flight, and by way of what. */
static struct {
	const struct frame *frame;
	unsigned int by;
} claims[MAX_CLAIMS];
static unsigned int nr_claims;

static bool claimed(const struct frame *frame, unsigned int by)
{
	unsigned int i;

	for (i = 0; i < nr_claims; i++)
		if (claims[i].frame == frame && claims[i].by != by)
			return true;
	return false;
}

static bool span_claimed(uint64_t addr, unsigned int nr, unsigned int by)
{
	struct range span;
	unsigned int i;

	if (!find_span(addr, nr, &span))
		return true;
	for (i = 0; i < nr; i++)
		if (claimed(page_frame(&span.arena->page[span.first + i]), by))
			return true;
	return false;
}

static void claim_span(uint64_t addr, unsigned int nr, unsigned int by)
{
	struct range span;
	unsigned int i;

	find_span(addr, nr, &span);
	for (i = 0; i < nr; i++) {
		claims[nr_claims].frame = page_frame(&span.arena->page[span.first + i]);
		claims[nr_claims++].by = by;
	}
}

/* False if something else in flight has one of the frames. */
static bool claim_pair(const struct meshhelper_pair *pair, unsigned int by)
{
	if (span_claimed(pair->src, pair->pages, by) || span_claimed(pair->dst, pair->pages, by))
		return false;
	claim_span(pair->src, pair->pages, by);
	claim_span(pair->dst, pair->pages, by);
	return true;
}

static bool prepare_command(struct command *c, unsigned int number, bool apart)
{
	unsigned int i, n = make_pairs(c->pairs, MAX_BATCH);
	unsigned int by = flight.linked ? 0 : number * MAX_BATCH;

	c->nr = 0;
	for (i = 0; i < n; i++)
		if ((!apart || result_is_visible(&c->pairs[i])) &&
		    claim_pair(&c->pairs[i], apart ? by + i : by))
			c->pairs[c->nr++] = c->pairs[i];
	c->result = PENDING;
	c->batch = (struct meshhelper_batch) {
		.pairs = (uintptr_t)c->pairs,
		.nr_pairs = c->nr,
		.flags = flight.mode,
		.pss_saved = UNREPORTED,
	};
	if (c->nr && flight.mode == MESHHELPER_MERGE_ARMED)
		arm_pairs(c->pairs, c->nr);
	return c->nr;
}

/* With @apart no two pairs have a frame in common, and each one's result can be found out. */
static bool prepare_flight(bool apart)
{
	unsigned int i, want = 1 + below(MAX_COMMANDS);

	nr_claims = 0;
	flight.nr = 0;
	flight.linked = !apart && one_in(2);
	flight.cancelled = false;
	flight.mode = apart || one_in(2) ? MESHHELPER_MERGE_ZAP : MESHHELPER_MERGE_ARMED;
	for (i = 0; i < want; i++)
		flight.nr += prepare_command(&flight.command[flight.nr], i, apart);
	note(" %u commands%s", flight.nr, flight.linked ? " linked" : "");
	return flight.nr;
}

/*
 * Once submitted, the SQEs are ours again; but Linux 6.12 reads that of a command that is linked
 * to another only when its turn has come.
 */
static void spoil_entries(struct ring *ring)
{
	if (flight.linked)
		return;
	ring_wait_submitted(ring);
	memset(ring->sqes, 0xff, ring->p.sq_entries * ring->sqe_size);
}

static void submit_flight(int device)
{
	struct ring *ring = the_ring();
	struct io_uring_sqe *sqe;
	unsigned int i;

	for (i = 0; i < flight.nr; i++) {
		sqe = ring_command(ring, device, MESHHELPER_IOC_MERGE, &flight.command[i].batch, i);
		if (flight.linked && i + 1 < flight.nr)
			sqe->flags |= IOSQE_IO_LINK;
	}
	ring_submit(ring);
	spoil_entries(ring);
}

/* Its own completion has a number that no command has. */
static void cancel_one(void)
{
	flight.cancelled = true;
	ring_sqe(&self.uring, IORING_OP_ASYNC_CANCEL, -1, MAX_COMMANDS)->addr = below(flight.nr);
	ring_submit(&self.uring);
}

static void record_command(struct command *c)
{
	unsigned int i;

	note(";");
	if (given_up(c->result) || (c->result == -ECANCELED && flight.cancelled)) {
		note(" cancelled");
		if (c->batch.pss_saved != UNREPORTED)
			fail("a command that was done was cancelled");
		return;
	}
	if (c->result)
		fail("completion with %d", c->result);
	for (i = 0; i < c->nr; i++)
		if (c->pairs[i].result == -EINTR && !flight.cancelled)
			fail("pair %u of a command that nobody has cancelled has -EINTR", i);
	record_results(c->pairs, c->nr, flight.mode, &c->batch);
}

/* Linked commands are done in this order, and of others it does not matter. */
static void record_flight(void)
{
	unsigned int i;

	for (i = 0; i < flight.nr; i++)
		record_command(&flight.command[i]);
	for (i = 0; i < flight.nr; i++)
		check_pairs(flight.command[i].pairs, flight.command[i].nr);
}

/* One completion for each command. */
static void await_flight(void)
{
	unsigned int left = flight.nr + flight.cancelled;

	while (left--) {
		struct io_uring_cqe cqe = ring_wait(&self.uring);

		if (cqe.user_data == MAX_COMMANDS)
			continue;
		if (cqe.user_data >= flight.nr || flight.command[cqe.user_data].result != PENDING)
			fail("a completion too many: %llu", (unsigned long long)cqe.user_data);
		flight.command[cqe.user_data].result = cqe.res;
	}
	record_flight();
}

static void write_meanwhile(void)
{
	struct range range;

	if (!pick_range(&range, 1, RW) ||
	    claimed(page_frame(&range.arena->page[range.first]), UINT32_MAX))
		return;
	write_some(&range, range_addr(&range));
	check_range(&range);
}

bool op_uring(void)
{
	unsigned int n = below(6);

	if (!prepare_flight(false))
		return false;
	submit_flight(self.device);
	if (one_in(5))
		cancel_one();
	while (n--)
		write_meanwhile();
	await_flight();
	return true;
}

/* A lock on a byte of the device that is ours alone, by the open file. */
static bool lock_device(int device, int cmd, short type)
{
	struct flock lock = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = getpid(),
		.l_len = 1,
	};

	while (fcntl(device, cmd, &lock))
		if (errno != EINTR)
			return false;
	return true;
}

/*
 * The ring goes with commands in flight, and with it their completions. What is left of each is
 * a reference to the open file, and so that file's lock goes with the last of them.
 */
bool op_uring_closed(void)
{
	unsigned int i;
	int device;

	if (!prepare_flight(false))
		return false;
	device = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (device < 0 || !lock_device(device, F_OFD_SETLK, F_WRLCK))
		die("locking " DEVICE);
	submit_flight(device);
	usleep(one_in(2) ? below(1000) : 0);
	uring_drop();
	close(device);
	write_meanwhile();
	if (!lock_device(self.device, F_OFD_SETLKW, F_WRLCK) ||
	    !lock_device(self.device, F_OFD_SETLK, F_UNLCK))
		die("locking " DEVICE);
	flight.cancelled = true;
	for (i = 0; i < flight.nr; i++)
		flight.command[i].result =
			flight.command[i].batch.pss_saved == UNREPORTED ? -ECANCELED : 0;
	record_flight();
	return true;
}

/* What was merged before the fork is merged in the child, and what comes after it is not. */
static void find_out_flight(void)
{
	unsigned int i, j;

	for (i = 0; i < flight.nr; i++)
		for (j = 0; j < flight.command[i].nr; j++)
			find_out_result(&flight.command[i].pairs[j]);
	check_all();
}

bool op_uring_fork(void)
{
	pid_t pid;

	if (!prepare_flight(true))
		return false;
	submit_flight(self.device);
	usleep(one_in(2) ? below(1000) : 0);
	pid = spawn(one_in(3));
	if (pid) {
		await_flight();
		return true;
	}
	note(" I am the child");
	find_out_flight();
	return true;
}

/* The ring goes on with a child, and acts on the child. */
bool op_uring_inherit(void)
{
	struct ring ring = *the_ring();
	pid_t pid;

	if (ring.flags & (IORING_SETUP_SQPOLL | IORING_SETUP_SINGLE_ISSUER))
		return false;
	self.uring.fd = -1;
	pid = spawn(one_in(3));
	if (pid > 0) {
		ring_close(&ring);
		return true;
	}
	self.uring = ring;
	if (pid)
		return false;
	note(" I am the child");
	op_write();
	return op_uring();
}

static void __attribute__((noreturn)) die_in_flight(void)
{
	usleep(one_in(2) ? below(3000) : 0);
	if (one_in(3))
		exec_anew();
	if (one_in(2))
		kill(getpid(), SIGKILL);
	_exit(0);
}

/* A child is gone before its commands are. It merges what it does not share any more. */
bool op_uring_die(void)
{
	unsigned int i;
	pid_t pid = spawn(one_in(3));

	if (pid) {
		check_all();
		return pid > 0;
	}
	note(" I am the child");
	for (i = 0; i < 4; i++)
		op_write();
	if (!prepare_flight(false))
		worker_end();
	submit_flight(self.device);
	die_in_flight();
}

/* What only an SQE can have wrong. */
static void spoil_command(struct io_uring_sqe *sqe)
{
	switch (below(5)) {
	case 0:
		sqe_payload(sqe)->reserved = 1ULL << below(64);
		break;
	case 1:
		sqe_payload(sqe)->arg = one_in(2) ? below(4096) : 0xffff888000000000ULL;
		break;
	case 2:
		sqe->rw_flags = 1U << below(32);
		break;
	case 3:
		sqe->cmd_op ^= 1U << below(32);
		break;
	default:
		sqe->fd = control_fd;
	}
}

bool op_uring_invalid(void)
{
	struct meshhelper_pair pair;
	struct meshhelper_batch batch = {
		.pairs = (uintptr_t)&pair,
		.nr_pairs = 1,
		.flags = MESHHELPER_MERGE_ZAP,
	};
	struct io_uring_cqe cqe;

	if (!make_pair(&pair))
		return false;
	spoil_command(ring_command(the_ring(), self.device, MESHHELPER_IOC_MERGE, &batch, 0));
	ring_submit(&self.uring);
	cqe = ring_wait(&self.uring);
	note(" %d", cqe.res);
	if (cqe.res >= 0)
		fail("a command that makes no sense was accepted");
	check_pairs(&pair, 1);
	return true;
}

bool op_uring_drop(void)
{
	bool open = self.uring.fd >= 0;

	uring_drop();
	return open;
}
