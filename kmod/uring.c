// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Requests as io_uring commands: the ioctls, by their own numbers.
 *
 * Every request copies from or to user memory and so may sleep. It is sent back
 * from the submitting thread, which holds the ring's lock, and comes again on a
 * worker thread of io_uring. Such a worker is a thread of the process that has
 * submitted the request (with SQPOLL, of the process that made the ring), and
 * current->mm is what it acts on: the descriptor, the ring and their history do
 * not count. What a child submits through an inherited ring acts on the child.
 *
 * A command is complete when the handler returns. None is parked, so there is
 * none to cancel; the workers look for cancellation between two pairs (batch.c).
 */
#include <linux/sched.h>

#include "meshhelper.h"

/**
 * mh_uring_cmd - file_operations.uring_cmd of the device
 * @cmd: the command
 * @issue_flags: IO_URING_F_*
 *
 * Context: with IO_URING_F_NONBLOCK, under the ring's lock; else process, no locks
 * held, and sleeps.
 * Return: the result of the completion, or -EAGAIN: to be asked again where it may
 * sleep.
 */
int mh_uring_cmd(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	const struct meshhelper_uring_cmd *sqe = mh_uring_payload(cmd);
	struct meshhelper_uring_cmd payload;

	if (issue_flags & IO_URING_F_CANCEL)
		return -EOPNOTSUPP;
	if (issue_flags & IO_URING_F_NONBLOCK)
		return -EAGAIN;
	/* A kernel thread has no memory of its own to work on. */
	if ((current->flags & PF_KTHREAD) || !current->mm)
		return -EFAULT;
	/* An SQE is shared with user space, which may be writing to it right now. */
	payload.arg = READ_ONCE(sqe->arg);
	payload.reserved = READ_ONCE(sqe->reserved);
	if (payload.reserved || (cmd->flags & IORING_URING_CMD_MASK))
		return -EINVAL;
	return mh_request(cmd->cmd_op, u64_to_user_ptr(payload.arg));
}
