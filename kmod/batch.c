// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Decoding of ARM and MERGE batches, from ioctl() and io_uring alike. All of the
 * request is copied before anything is looked at, and nothing is locked while user
 * memory is accessed: the pairs may themselves lie in an arena, or be changed by
 * another thread meanwhile.
 */
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "meshhelper.h"

static bool mh_batch_valid(unsigned int cmd, const struct meshhelper_batch *batch)
{
	if (batch->reserved || batch->reserved2[0] || batch->reserved2[1] ||
	    !batch->nr_pairs || batch->nr_pairs > MESHHELPER_MAX_PAIRS)
		return false;
	if (cmd == MESHHELPER_IOC_ARM)
		return !batch->flags;
	return batch->flags == MESHHELPER_MERGE_ARMED ||
	       batch->flags == MESHHELPER_MERGE_ZAP;
}

static int mh_batch_pair(unsigned int cmd, struct meshhelper_batch *batch,
			 const struct meshhelper_pair *pair, bool *may_drain)
{
	int ret;

	if (cmd == MESHHELPER_IOC_ARM)
		return mh_arm_pair(current->mm, pair);
	ret = mh_merge_pair(current->mm, pair, batch->flags, may_drain);
	if (ret < 0)
		return ret;
	batch->pss_saved += (u64)ret << PAGE_SHIFT;
	return 0;
}

static void mh_batch_run(unsigned int cmd, struct meshhelper_batch *batch,
			 struct meshhelper_pair *pairs)
{
	bool may_drain = true;
	u32 i;

	batch->nr_done = 0;
	batch->pss_saved = 0;
	for (i = 0; i < batch->nr_pairs; i++) {
		pairs[i].result = mh_batch_pair(cmd, batch, &pairs[i], &may_drain);
		if (!pairs[i].result)
			batch->nr_done++;
		cond_resched();
	}
}

/* Only what is documented as written back: the rest belongs to user space. */
static long mh_batch_report(struct meshhelper_batch __user *arg,
			    const struct meshhelper_batch *batch,
			    const struct meshhelper_pair *pairs)
{
	struct meshhelper_pair __user *upairs = u64_to_user_ptr(batch->pairs);
	u32 i;

	for (i = 0; i < batch->nr_pairs; i++)
		if (put_user(pairs[i].result, &upairs[i].result))
			return -EFAULT;
	if (put_user(batch->nr_done, &arg->nr_done) ||
	    put_user(batch->pss_saved, &arg->pss_saved))
		return -EFAULT;
	return 0;
}

/**
 * mh_batch - MESHHELPER_IOC_ARM and MESHHELPER_IOC_MERGE
 * @cmd: which
 * @arg: user address of the batch
 *
 * Context: process, no locks held; sleeps.
 * Return: 0, with a result in each pair; -EINVAL or -EFAULT for the whole batch;
 * -ENOMEM, with nothing done.
 */
long mh_batch(unsigned int cmd, struct meshhelper_batch __user *arg)
{
	struct meshhelper_pair *pairs;
	struct meshhelper_batch batch;
	long ret;

	if (copy_from_user(&batch, arg, sizeof(batch)))
		return -EFAULT;
	if (!mh_batch_valid(cmd, &batch))
		return -EINVAL;
	pairs = kvmalloc_array(batch.nr_pairs, sizeof(*pairs), GFP_KERNEL_ACCOUNT);
	if (!pairs)
		return -ENOMEM;
	ret = -EFAULT;
	if (copy_from_user(pairs, u64_to_user_ptr(batch.pairs),
			   array_size(batch.nr_pairs, sizeof(*pairs))))
		goto free;
	mh_batch_run(cmd, &batch, pairs);
	ret = mh_batch_report(arg, &batch, pairs);
free:
	kvfree(pairs);
	return ret;
}
