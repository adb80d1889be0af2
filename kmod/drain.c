// SPDX-License-Identifier: GPL-2.0-only
// SPDX-FileCopyrightText: The Mesh authors
/*
 * Draining the LRU code's per-CPU lists, whose references look like pinned pages.
 *
 * Neither lru_add_drain() nor lru_add_drain_all() is for modules. But who releases a
 * batch of folios wants them to be free afterwards, so the lists of the CPU are drained
 * first, even if there is nothing in the batch.
 */
#include <linux/percpu.h>
#include <linux/workqueue.h>

#include "meshhelper.h"

static struct workqueue_struct *mh_drain_wq;

int mh_drain_init(void)
{
	mh_drain_wq = alloc_workqueue("meshhelper", WQ_MEM_RECLAIM | WQ_PERCPU, 0);
	return mh_drain_wq ? 0 : -ENOMEM;
}

void mh_drain_exit(void)
{
	destroy_workqueue(mh_drain_wq);
}

/**
 * mh_drain_local - have this CPU put the pages it keeps aside on the LRU
 *
 * Context: process.
 */
void mh_drain_local(void)
{
	struct folio_batch batch;

	folio_batch_init(&batch);
	__folio_batch_release(&batch);
}

static void mh_drain_this_cpu(struct work_struct *work)
{
	mh_drain_local();
}

/**
 * mh_drain - the same for all CPUs
 *
 * CPUs are not kept from going away: the work of such a one runs elsewhere, and its
 * lists were drained when it went. Best effort: without memory nothing happens.
 *
 * Context: process, no folio lock; sleeps.
 */
void mh_drain(void)
{
	struct work_struct __percpu *works = alloc_percpu(struct work_struct);
	struct work_struct *work;
	int cpu;

	if (!works)
		return;
	for_each_possible_cpu(cpu) {
		work = per_cpu_ptr(works, cpu);
		INIT_WORK(work, mh_drain_this_cpu);
		if (cpu_online(cpu))
			queue_work_on(cpu, mh_drain_wq, work);
	}
	for_each_possible_cpu(cpu)
		flush_work(per_cpu_ptr(works, cpu));
	free_percpu(works);
	mh_count(MH_COUNT_drains_total, 1);
}
