// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Draining the LRU code's per-CPU lists, whose references look like pinned pages.
 *
 * lru_add_drain_all() is not for modules. But unmapping any range, an empty one
 * included, drains the lists of the CPU it runs on, so a work item on every CPU
 * unmaps an index that has no page table entry.
 */
#include <linux/percpu.h>
#include <linux/workqueue.h>

#include "meshhelper.h"

struct mh_drain_work {
	struct work_struct work;
	struct mh_arena *arena;
	pgoff_t index;
};

static struct workqueue_struct *mh_drain_wq;

int mh_drain_init(void)
{
	mh_drain_wq = alloc_workqueue("meshhelper", WQ_MEM_RECLAIM, 0);
	return mh_drain_wq ? 0 : -ENOMEM;
}

void mh_drain_exit(void)
{
	destroy_workqueue(mh_drain_wq);
}

static void mh_drain_this_cpu(struct work_struct *work)
{
	struct mh_drain_work *drain = container_of(work, struct mh_drain_work, work);

	mh_zap(drain->arena->family, drain->index, 1);
}

/**
 * mh_drain - have all CPUs put the pages they keep aside on the LRU
 * @arena: an arena that stays mapped meanwhile
 * @index: an index in one of its VMAs
 *
 * CPUs are not kept from going away: the work of such a one runs elsewhere, and its
 * lists were drained when it went. Best effort: without memory nothing happens.
 *
 * Context: process, mmap_lock held, no folio lock; sleeps.
 */
void mh_drain(struct mh_arena *arena, pgoff_t index)
{
	struct mh_drain_work __percpu *works = alloc_percpu(struct mh_drain_work);
	struct mh_drain_work *drain;
	int cpu;

	if (!works)
		return;
	for_each_possible_cpu(cpu) {
		drain = per_cpu_ptr(works, cpu);
		INIT_WORK(&drain->work, mh_drain_this_cpu);
		drain->arena = arena;
		drain->index = index;
		if (cpu_online(cpu))
			queue_work_on(cpu, mh_drain_wq, &drain->work);
	}
	for_each_possible_cpu(cpu)
		flush_work(&per_cpu_ptr(works, cpu)->work);
	free_percpu(works);
	mh_count(MH_COUNT_drains_total, 1);
}
