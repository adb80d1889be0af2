// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Counters of the module: one s64 per CPU and counter, summed when read, so that
 * counting a fault touches no shared cache line. What goes down as well is no sum:
 * while it is read, it may go up on a CPU that was looked at already and down on the
 * next, and seem to be negative. Gauges change seldom enough to be plain numbers.
 *
 * Shown under /sys/class/misc/meshhelper/, one value in each file.
 */
#include <linux/device.h>
#include <linux/percpu.h>
#include <linux/sysfs.h>

#include "meshhelper.h"

struct mh_counters {
	s64 value[MH_NR_COUNTERS];
};

static DEFINE_PER_CPU(struct mh_counters, mh_counters);
static atomic64_t mh_gauges[MH_NR_GAUGES];

static const struct {
	int error;
	enum mh_counter counter;
} mh_aborts[] = {
#define MH_ABORT_ENTRY(reason, error)	\
	{ error, MH_COUNT_merge_aborts_##reason##_total },
	MH_ABORTS(MH_ABORT_ENTRY)
#undef MH_ABORT_ENTRY
};

/**
 * mh_count - add to a counter of the module
 * @counter: which
 * @n: how much; negative for gauges that go down
 *
 * Context: any.
 */
void mh_count(enum mh_counter counter, s64 n)
{
	if (counter < MH_NR_GAUGES)
		atomic64_add(n, &mh_gauges[counter]);
	else
		this_cpu_add(mh_counters.value[counter], n);
}

/**
 * mh_count_abort - count a pair that was left alone, by the reason
 * @err: negative errno
 *
 * Context: any.
 */
void mh_count_abort(int err)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mh_aborts) && mh_aborts[i].error != -err; i++)
		;
	mh_count(i < ARRAY_SIZE(mh_aborts) ? mh_aborts[i].counter :
		 MH_COUNT_merge_aborts_other_total, 1);
}

static s64 mh_counter_sum(enum mh_counter counter)
{
	s64 sum = 0;
	int cpu;

	if (counter < MH_NR_GAUGES)
		return atomic64_read(&mh_gauges[counter]);
	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(mh_counters, cpu).value[counter]);
	return sum;
}

#define MH_COUNTER_ATTR(name)						\
static ssize_t name##_show(struct device *dev,				\
			   struct device_attribute *attr, char *buf);	\
static DEVICE_ATTR_RO(name);						\
static ssize_t name##_show(struct device *dev,				\
			   struct device_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%lld\n",				\
			  mh_counter_sum(MH_COUNT_##name));		\
}

#define MH_ABORT_ATTR(reason, error)	\
	MH_COUNTER_ATTR(merge_aborts_##reason##_total)

MH_COUNTERS(MH_COUNTER_ATTR)
MH_ABORTS(MH_ABORT_ATTR)
MH_COUNTER_ATTR(merge_aborts_other_total)
#undef MH_ABORT_ATTR
#undef MH_COUNTER_ATTR

static ssize_t pss_bytes_saved_show(struct device *dev,
				    struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n",
			  mh_counter_sum(MH_COUNT_pages_meshed) << PAGE_SHIFT);
}
static DEVICE_ATTR_RO(pss_bytes_saved);

static struct attribute *mh_sysfs_attrs[] = {
#define MH_COUNTER_PTR(name)	\
	[MH_COUNT_##name] = &dev_attr_##name.attr,
#define MH_ABORT_PTR(reason, error)	\
	MH_COUNTER_PTR(merge_aborts_##reason##_total)
	MH_COUNTERS(MH_COUNTER_PTR)
	MH_ABORTS(MH_ABORT_PTR)
	MH_COUNTER_PTR(merge_aborts_other_total)
#undef MH_ABORT_PTR
#undef MH_COUNTER_PTR
	[MH_NR_COUNTERS] = &dev_attr_pss_bytes_saved.attr,
	NULL
};

static const struct attribute_group mh_sysfs_group = {
	.attrs = mh_sysfs_attrs,
};

const struct attribute_group *mh_sysfs_groups[] = {
	&mh_sysfs_group,
	NULL
};
