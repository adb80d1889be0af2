// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * /dev/meshhelper: the device through which arenas are made and merges asked for.
 *
 * A descriptor of the device has no state but whose process opened it, which only
 * its fdinfo uses. See uapi/linux/meshhelper.h for the interface and meshhelper.h
 * here for how it works inside.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd.h>

#include "meshhelper.h"

/* Asynchronous write-protection needs markers to protect what is not mapped. */
#if defined(UFFD_FEATURE_WP_ASYNC) && defined(CONFIG_PTE_MARKER_UFFD_WP)
#define MH_NO_UFFD_WP	0
#else
#define MH_NO_UFFD_WP	MESHHELPER_F_UFFD_WP
#endif

#ifdef CONFIG_IO_URING
#define MH_NO_URING_CMD	0
#else
#define MH_NO_URING_CMD	MESHHELPER_F_URING_CMD
#endif

#define MH_FEATURES	(MESHHELPER_F_ALL & ~(MH_NO_UFFD_WP | MH_NO_URING_CMD))

static long mh_info(struct meshhelper_info __user *arg)
{
	struct meshhelper_info info = {
		.abi_version = MESHHELPER_ABI_VERSION,
		.page_size = PAGE_SIZE,
		.features = MH_FEATURES,
		.max_pairs = MESHHELPER_MAX_PAIRS,
		.max_span_pages = MESHHELPER_MAX_SPAN_PAGES,
		.max_arena_pages = MH_MAX_ARENA_PAGES,
	};

	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

/**
 * mh_request - what ioctl() and io_uring commands ask for
 * @cmd: MESHHELPER_IOC_*, any value user space likes
 * @arg: user address of its argument
 *
 * Acts on the calling process.
 *
 * Context: process, no locks held; sleeps.
 * Return: 0; -ENOTTY for an unknown command, -EINVAL, -EFAULT or -ENOMEM.
 */
long mh_request(unsigned int cmd, void __user *arg)
{
	switch (cmd) {
	case MESHHELPER_IOC_INFO:
		return mh_info(arg);
	case MESHHELPER_IOC_ARM:
	case MESHHELPER_IOC_MERGE:
		return mh_batch(cmd, arg);
	default:
		return -ENOTTY;
	}
}

static long mh_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return mh_request(cmd, (void __user *)arg);
}

/* Only the address of the mm_struct is kept in use: it must not be reused. */
static int mh_open(struct inode *inode, struct file *file)
{
	mmgrab(current->mm);
	file->private_data = current->mm;
	return 0;
}

static int mh_release(struct inode *inode, struct file *file)
{
	mmdrop(file->private_data);
	return 0;
}

static void mh_show_fdinfo(struct seq_file *m, struct file *file)
{
	mh_usage_show(m, file->private_data);
}

static const struct file_operations mh_fops = {
	.owner = THIS_MODULE,
	.open = mh_open,
	.release = mh_release,
	.mmap = mh_arena_mmap,
	.unlocked_ioctl = mh_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.uring_cmd = mh_uring_cmd,
	.show_fdinfo = mh_show_fdinfo,
};

static struct miscdevice mh_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "meshhelper",
	.fops = &mh_fops,
	.groups = mh_sysfs_groups,
};

static int __init mh_init(void)
{
	int err;

	BUILD_BUG_ON(sizeof(struct meshhelper_info) != 64);
	BUILD_BUG_ON(sizeof(struct meshhelper_pair) != 64);
	BUILD_BUG_ON(sizeof(struct meshhelper_batch) != 48);
	BUILD_BUG_ON(sizeof(struct meshhelper_uring_cmd) != 16);

	err = mh_store_init();
	if (err)
		return err;
	err = mh_drain_init();
	if (err)
		goto store_exit;
	err = mh_shrink_init();
	if (err)
		goto drain_exit;
	err = misc_register(&mh_device);
	if (err)
		goto shrink_exit;
	return 0;

shrink_exit:
	mh_shrink_exit();
drain_exit:
	mh_drain_exit();
store_exit:
	mh_store_exit();
	return err;
}

static void __exit mh_exit(void)
{
	misc_deregister(&mh_device);
	mh_shrink_exit();
	mh_drain_exit();
	mh_store_exit();
}

module_init(mh_init);
module_exit(mh_exit);

MODULE_DESCRIPTION("Merges half-empty pages of a process onto shared physical pages");
MODULE_AUTHOR("The Mesh authors");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("GPL");
