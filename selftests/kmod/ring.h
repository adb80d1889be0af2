/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * A raw io_uring, as little as the tests of the module need. Not liburing: the tests
 * write to the SQEs behind the kernel's back, and share rings between processes.
 *
 * SQEs go in with ring_command() and the like, to the kernel with ring_submit(). Whoever
 * includes this has a die() that takes what has failed and does not return: that of arena.h,
 * or his own.
 */
#ifndef SELFTESTS_KMOD_RING_H
#define SELFTESTS_KMOD_RING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/meshhelper.h>

/**
 * struct ring - an io_uring
 * @fd: its descriptor
 * @flags: IORING_SETUP_*
 * @sqe_flags: IOSQE_* of every SQE that is queued
 * @sqe_size: bytes from one SQE to the next
 * @cqe_size: bytes from one CQE to the next
 * @queued: SQEs that the kernel was not told of yet
 * @p: what the kernel said about the layout
 * @rings: the mapping of both rings
 * @rings_len: its length
 * @sqes: the mapping of the SQEs
 */
struct ring {
	int fd;
	unsigned int flags;
	unsigned int sqe_flags;
	size_t sqe_size;
	size_t cqe_size;
	unsigned int queued;
	struct io_uring_params p;
	char *rings;
	size_t rings_len;
	char *sqes;
};

static inline _Atomic uint32_t *ring_word(struct ring *r, uint32_t offset)
{
	return (void *)(r->rings + offset);
}

/* A ring with these flags; fd is -1 if the kernel does not know them. */
static inline struct ring ring_open_maybe(unsigned int entries, unsigned int flags)
{
	struct ring r = { .flags = flags, .p = { .flags = flags } };
	size_t cq_len;

	/* Let a polling thread rest soon: there are few processors. */
	r.p.sq_thread_idle = 5;
	r.fd = syscall(SYS_io_uring_setup, entries, &r.p);
	if (r.fd < 0)
		return r;
	r.sqe_size = flags & IORING_SETUP_SQE128 ? 128 : 64;
	r.cqe_size = flags & IORING_SETUP_CQE32 ? 32 : 16;
	r.rings_len = r.p.sq_off.array + r.p.sq_entries * sizeof(uint32_t);
	cq_len = r.p.cq_off.cqes + r.p.cq_entries * r.cqe_size;
	if (r.rings_len < cq_len)
		r.rings_len = cq_len;
	r.rings = mmap(NULL, r.rings_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		       r.fd, IORING_OFF_SQ_RING);
	r.sqes = mmap(NULL, r.p.sq_entries * r.sqe_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_POPULATE, r.fd, IORING_OFF_SQES);
	if (r.rings == MAP_FAILED || r.sqes == MAP_FAILED)
		die("mmap of an io_uring");
	return r;
}

static inline struct ring ring_open(unsigned int entries, unsigned int flags)
{
	struct ring r = ring_open_maybe(entries, flags);

	if (r.fd < 0)
		die("io_uring_setup");
	return r;
}

static inline void ring_close(struct ring *r)
{
	munmap(r->sqes, r->p.sq_entries * r->sqe_size);
	munmap(r->rings, r->rings_len);
	close(r->fd);
}

/* The next free SQE, zeroed, and visible to the kernel from the next ring_submit() on. */
static inline struct io_uring_sqe *ring_sqe(struct ring *r, uint8_t opcode, int fd,
					    uint64_t user_data)
{
	uint32_t tail = atomic_load(ring_word(r, r->p.sq_off.tail)) + r->queued;
	uint32_t at = tail & (r->p.sq_entries - 1);
	struct io_uring_sqe *sqe = (void *)(r->sqes + at * r->sqe_size);

	/* A polling thread may still have to take what was there before. */
	while (tail - atomic_load(ring_word(r, r->p.sq_off.head)) >= r->p.sq_entries) {
		if (!(r->flags & IORING_SETUP_SQPOLL) || r->queued >= r->p.sq_entries)
			die("the submission queue is full");
		usleep(1000);
	}
	*ring_word(r, r->p.sq_off.array + at * sizeof(uint32_t)) = at;
	memset(sqe, 0, r->sqe_size);
	sqe->opcode = opcode;
	sqe->flags = r->sqe_flags;
	sqe->fd = fd;
	sqe->user_data = user_data;
	r->queued++;
	return sqe;
}

/* The part of an SQE that is the device's. */
static inline struct meshhelper_uring_cmd *sqe_payload(struct io_uring_sqe *sqe)
{
	return (void *)((char *)sqe + 48);
}

static inline struct io_uring_sqe *ring_command(struct ring *r, int fd, uint32_t cmd,
						const void *arg, uint64_t user_data)
{
	struct io_uring_sqe *sqe = ring_sqe(r, IORING_OP_URING_CMD, fd, user_data);

	sqe->cmd_op = cmd;
	sqe_payload(sqe)->arg = (uintptr_t)arg;
	return sqe;
}

/* Queue a read; @opcode is IORING_OP_READ, or IORING_OP_READ_FIXED into buffer 0. */
static inline void ring_read(struct ring *r, uint8_t opcode, int fd, void *buffer,
			     unsigned int len, uint64_t offset)
{
	struct io_uring_sqe *sqe = ring_sqe(r, opcode, fd, 0);

	sqe->addr = (uintptr_t)buffer;
	sqe->len = len;
	sqe->off = offset;
}

/* Register one buffer; 0 or the errno. */
static inline int ring_register_buffer(struct ring *r, void *buffer, size_t len)
{
	struct iovec iov = { buffer, len };

	return syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, &iov, 1) ?
	       errno : 0;
}

static inline void ring_unregister_buffer(struct ring *r)
{
	if (syscall(SYS_io_uring_register, r->fd, IORING_UNREGISTER_BUFFERS, NULL, 0))
		die("IORING_UNREGISTER_BUFFERS");
}

static inline int ring_enter(struct ring *r, unsigned int submit, unsigned int wait,
			     unsigned int flags)
{
	return syscall(SYS_io_uring_enter, r->fd, submit, wait, flags, NULL, 0);
}

/* Hand over what is queued: how many entries the kernel has taken, -1 if none. */
static inline int ring_try_submit(struct ring *r)
{
	unsigned int n = r->queued;

	atomic_fetch_add(ring_word(r, r->p.sq_off.tail), n);
	r->queued = 0;
	if (!(r->flags & IORING_SETUP_SQPOLL))
		return ring_enter(r, n, 0, 0);
	if (*ring_word(r, r->p.sq_off.flags) & IORING_SQ_NEED_WAKEUP)
		return ring_enter(r, n, 0, IORING_ENTER_SQ_WAKEUP);
	return n;
}

/* The same, and all of them; does not wait for completions. */
static inline void ring_submit(struct ring *r)
{
	int n = r->queued;

	if (ring_try_submit(r) != n)
		die("io_uring_enter");
}

/* Until the kernel has taken all entries; only a polling thread makes that take a while. */
static inline void ring_wait_submitted(struct ring *r)
{
	while (atomic_load(ring_word(r, r->p.sq_off.head)) !=
	       atomic_load(ring_word(r, r->p.sq_off.tail)))
		usleep(1000);
}

/* Take a completion if there is one. */
static inline bool ring_reap(struct ring *r, struct io_uring_cqe *cqe)
{
	uint32_t head = atomic_load(ring_word(r, r->p.cq_off.head));

	if (head == atomic_load(ring_word(r, r->p.cq_off.tail)))
		return false;
	memcpy(cqe, r->rings + r->p.cq_off.cqes +
	       (head & (r->p.cq_entries - 1)) * r->cqe_size, sizeof(*cqe));
	atomic_store(ring_word(r, r->p.cq_off.head), head + 1);
	return true;
}

/* The next completion. */
static inline struct io_uring_cqe ring_wait(struct ring *r)
{
	struct io_uring_cqe cqe;

	while (!ring_reap(r, &cqe))
		if (ring_enter(r, 0, 1, IORING_ENTER_GETEVENTS) < 0 && errno != EINTR)
			die("io_uring_enter");
	return cqe;
}

/* One command, from submission to completion: its result. */
static inline int ring_request(struct ring *r, int fd, uint32_t cmd, const void *arg)
{
	struct io_uring_cqe cqe;

	ring_command(r, fd, cmd, arg, (uintptr_t)arg);
	ring_submit(r);
	cqe = ring_wait(r);
	if (cqe.user_data != (uintptr_t)arg)
		die("a completion of something else");
	return cqe.res;
}

#endif /* SELFTESTS_KMOD_RING_H */
