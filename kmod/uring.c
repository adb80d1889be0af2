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

/*
 * In the command's flags: its payload is in its pdu. io_uring sets the flags anew for
 * each command, and knows none of its own there but the lowest and the highest ones.
 */
#define MH_URING_KEPT	BIT(29)

/*
 * The SQE is shared with user space, which may be writing to it right now: it is read once.
 * That is when the command comes first, for after submission it is the application's again,
 * and Linux 6.12 hands out the same pointer nevertheless when the command comes again.
 */
static struct meshhelper_uring_cmd *mh_uring_keep(struct io_uring_cmd *cmd)
{
	struct meshhelper_uring_cmd *kept = (struct meshhelper_uring_cmd *)cmd->pdu;
	const struct meshhelper_uring_cmd *sqe = mh_uring_payload(cmd);

	BUILD_BUG_ON(sizeof(*kept) > sizeof(cmd->pdu));
	if (!(cmd->flags & MH_URING_KEPT)) {
		kept->arg = READ_ONCE(sqe->arg);
		kept->reserved = READ_ONCE(sqe->reserved);
		cmd->flags |= MH_URING_KEPT;
	}
	return kept;
}

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
	struct meshhelper_uring_cmd *payload;

	if (issue_flags & IO_URING_F_CANCEL)
		return -EOPNOTSUPP;
	payload = mh_uring_keep(cmd);
	if (issue_flags & IO_URING_F_NONBLOCK)
		return -EAGAIN;
	/* A kernel thread has no memory of its own to work on. */
	if ((current->flags & PF_KTHREAD) || !current->mm)
		return -EFAULT;
	if (payload->reserved || (cmd->flags & IORING_URING_CMD_MASK))
		return -EINVAL;
	return mh_request(cmd->cmd_op, u64_to_user_ptr(payload->arg));
}
