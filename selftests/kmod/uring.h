/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * As much of io_uring as the tests need, by bare system calls: reads, one after the
 * other or several at once, into plain or registered buffers.
 */
#ifndef SELFTESTS_KMOD_URING_H
#define SELFTESTS_KMOD_URING_H

#include "arena.h"

#include <linux/io_uring.h>
#include <sys/uio.h>

#define URING_ENTRIES	16

/**
 * struct uring - a ring
 * @fd: the ring
 * @sq: submission ring: tail at @params.sq_off.tail and so on
 * @cq: completion ring
 * @sqes: submission entries
 * @params: what the kernel said about the ring
 * @queued: entries filled in and not submitted yet
 */
struct uring {
	int fd;
	char *sq;
	char *cq;
	struct io_uring_sqe *sqes;
	struct io_uring_params params;
	unsigned int queued;
};

static inline unsigned int *uring_word(char *ring, unsigned int offset)
{
	return (unsigned int *)(ring + offset);
}

static inline void *uring_map(int fd, size_t len, off_t offset)
{
	void *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);

	if (map == MAP_FAILED)
		die("mmap of io_uring");
	return map;
}

static inline struct uring uring_open(void)
{
	struct uring r = { 0 };

	r.fd = syscall(SYS_io_uring_setup, URING_ENTRIES, &r.params);
	if (r.fd < 0)
		die("io_uring_setup");
	r.sq = uring_map(r.fd, r.params.sq_off.array + URING_ENTRIES * sizeof(unsigned int),
			 IORING_OFF_SQ_RING);
	r.cq = uring_map(r.fd, r.params.cq_off.cqes +
			 r.params.cq_entries * sizeof(struct io_uring_cqe),
			 IORING_OFF_CQ_RING);
	r.sqes = uring_map(r.fd, URING_ENTRIES * sizeof(*r.sqes), IORING_OFF_SQES);
	return r;
}

/* Only the descriptor: the process ends soon. */
static inline void uring_close(struct uring *r)
{
	close(r->fd);
}

/* Queue a read; @op is IORING_OP_READ, or IORING_OP_READ_FIXED into buffer 0. */
static inline void uring_read(struct uring *r, int op, int fd, void *buffer,
			      unsigned int len, uint64_t offset)
{
	unsigned int *tail = uring_word(r->sq, r->params.sq_off.tail);
	unsigned int i = *tail % URING_ENTRIES;

	r->sqes[i] = (struct io_uring_sqe) {
		.opcode = op,
		.fd = fd,
		.addr = (uintptr_t)buffer,
		.len = len,
		.off = offset,
	};
	uring_word(r->sq, r->params.sq_off.array)[i] = i;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	r->queued++;
}

/* Submit what is queued and wait for it; how many did not read @len bytes. */
static inline unsigned int uring_wait(struct uring *r, int len)
{
	struct io_uring_cqe *cqes = (void *)(r->cq + r->params.cq_off.cqes);
	unsigned int *head = uring_word(r->cq, r->params.cq_off.head);
	unsigned int n = r->queued, wrong = 0, i;

	if (syscall(SYS_io_uring_enter, r->fd, n, n, IORING_ENTER_GETEVENTS, NULL, 0) != (long)n)
		die("io_uring_enter");
	for (i = 0; i < n; i++)
		wrong += cqes[(*head + i) % r->params.cq_entries].res != len;
	__atomic_store_n(head, *head + n, __ATOMIC_RELEASE);
	r->queued = 0;
	return wrong;
}

/* Register one buffer; 0 or the errno. */
static inline int uring_register(struct uring *r, void *buffer, size_t len)
{
	struct iovec iov = { buffer, len };

	return syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS, &iov, 1) ?
	       errno : 0;
}

static inline void uring_unregister(struct uring *r)
{
	if (syscall(SYS_io_uring_register, r->fd, IORING_UNREGISTER_BUFFERS, NULL, 0))
		die("IORING_UNREGISTER_BUFFERS");
}

#endif /* SELFTESTS_KMOD_URING_H */
