/* SPDX-License-Identifier: GPL-2.0-only */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Tracepoints. What their fields mean is in
 * Documentation/ABI/testing/tracing-events-meshhelper.
 *
 * In all of them, arena is the number of the store's inode, which /proc/PID/maps shows
 * for the arena, too; relatives by fork have the same.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM meshhelper

#if !defined(MH_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define MH_TRACE_H

#include <linux/tracepoint.h>

#include "meshhelper.h"

/* Closed by an entry that is no reason, for the list of symbols must not end in a comma. */
#ifndef MH_SHOW_ABORT
#define MH_ABORT_SYMBOL(reason, error)	{ -(error), #reason },
#define MH_SHOW_ABORT(error) \
	__print_symbolic(error, MH_ABORTS(MH_ABORT_SYMBOL) { 0, "none" })
#endif

TRACE_EVENT(meshhelper_merge,
	TP_PROTO(const struct meshhelper_pair *pair, struct mh_family *family,
		 pgoff_t src_index, pgoff_t dst_index, pgoff_t slot, bool armed,
		 unsigned int saved),
	TP_ARGS(pair, family, src_index, dst_index, slot, armed, saved),
	TP_STRUCT__entry(
		__field(u64, arena)
		__field(u64, src)
		__field(u64, dst)
		__field(u64, src_index)
		__field(u64, dst_index)
		__field(u64, slot)
		__field(u32, pages)
		__field(u32, saved)
		__field(bool, armed)
	),
	TP_fast_assign(
		__entry->arena = mh_family_id(family);
		__entry->src = pair->src;
		__entry->dst = pair->dst;
		__entry->src_index = src_index;
		__entry->dst_index = dst_index;
		__entry->slot = slot;
		__entry->pages = pair->pages;
		__entry->saved = saved;
		__entry->armed = armed;
	),
	TP_printk("arena=%llu src=0x%llx dst=0x%llx src_index=%llu dst_index=%llu slot=0x%llx pages=%u saved=%u armed=%d",
		  __entry->arena, __entry->src, __entry->dst, __entry->src_index,
		  __entry->dst_index, __entry->slot, __entry->pages, __entry->saved,
		  __entry->armed)
);

TRACE_EVENT(meshhelper_abort,
	TP_PROTO(const struct meshhelper_pair *pair, bool armed, int error),
	TP_ARGS(pair, armed, error),
	TP_STRUCT__entry(
		__field(u64, src)
		__field(u64, dst)
		__field(u32, pages)
		__field(bool, armed)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->src = pair->src;
		__entry->dst = pair->dst;
		__entry->pages = pair->pages;
		__entry->armed = armed;
		__entry->error = error;
	),
	TP_printk("src=0x%llx dst=0x%llx pages=%u armed=%d error=%d reason=%s",
		  __entry->src, __entry->dst, __entry->pages, __entry->armed, __entry->error,
		  MH_SHOW_ABORT(__entry->error))
);

TRACE_EVENT_CONDITION(meshhelper_alias_fault,
	TP_PROTO(struct mh_arena *arena, struct vm_fault *vmf, struct mh_layer *owner,
		 pgoff_t slot),
	TP_ARGS(arena, vmf, owner, slot),
	TP_CONDITION(slot != owner->base + vmf->pgoff),
	TP_STRUCT__entry(
		__field(u64, arena)
		__field(u64, address)
		__field(u64, index)
		__field(u64, slot)
		__field(bool, write)
		__field(bool, lower)
	),
	TP_fast_assign(
		__entry->arena = mh_family_id(arena->family);
		__entry->address = vmf->address;
		__entry->index = vmf->pgoff;
		__entry->slot = slot;
		__entry->write = vmf->flags & FAULT_FLAG_WRITE;
		__entry->lower = owner != arena->top;
	),
	TP_printk("arena=%llu address=0x%llx index=%llu slot=0x%llx write=%d lower=%d",
		  __entry->arena, __entry->address, __entry->index, __entry->slot,
		  __entry->write, __entry->lower)
);

TRACE_EVENT(meshhelper_copy_up,
	TP_PROTO(struct mh_family *family, struct mh_layer *layer, pgoff_t index,
		 pgoff_t from, pgoff_t to, unsigned int members),
	TP_ARGS(family, layer, index, from, to, members),
	TP_STRUCT__entry(
		__field(u64, arena)
		__field(u64, index)
		__field(u64, from)
		__field(u64, to)
		__field(u32, members)
		__field(u32, whose)
	),
	TP_fast_assign(
		__entry->arena = mh_family_id(family);
		__entry->index = index;
		__entry->from = from;
		__entry->to = to;
		__entry->members = members;
		__entry->whose = !layer->arena ? 2 : layer->arena->mm != current->mm;
	),
	TP_printk("arena=%llu index=%llu from=0x%llx to=0x%llx members=%u whose=%s",
		  __entry->arena, __entry->index, __entry->from, __entry->to,
		  __entry->members,
		  __print_symbolic(__entry->whose,
				   { 0, "own" }, { 1, "relative" }, { 2, "snapshot" }))
);

TRACE_EVENT(meshhelper_remove,
	TP_PROTO(struct mh_family *family, pgoff_t index, u64 pages, int error),
	TP_ARGS(family, index, pages, error),
	TP_STRUCT__entry(
		__field(u64, arena)
		__field(u64, index)
		__field(u64, pages)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->arena = mh_family_id(family);
		__entry->index = index;
		__entry->pages = pages;
		__entry->error = error;
	),
	TP_printk("arena=%llu index=%llu pages=%llu error=%d",
		  __entry->arena, __entry->index, __entry->pages, __entry->error)
);

TRACE_EVENT(meshhelper_fork,
	TP_PROTO(struct mh_family *family, struct vm_area_struct *vma),
	TP_ARGS(family, vma),
	TP_STRUCT__entry(
		__field(u64, arena)
		__field(u64, start)
		__field(u64, end)
		__field(bool, failed)
	),
	TP_fast_assign(
		__entry->arena = mh_family_id(family);
		__entry->start = vma->vm_start;
		__entry->end = vma->vm_end;
		__entry->failed = !vma->vm_private_data;
	),
	TP_printk("arena=%llu start=0x%llx end=0x%llx failed=%d",
		  __entry->arena, __entry->start, __entry->end, __entry->failed)
);

TRACE_EVENT(meshhelper_collapse,
	TP_PROTO(struct mh_family *family, pgoff_t lower, pgoff_t upper, bool snapshot),
	TP_ARGS(family, lower, upper, snapshot),
	TP_STRUCT__entry(
		__field(u64, arena)
		__field(u64, lower)
		__field(u64, upper)
		__field(bool, snapshot)
	),
	TP_fast_assign(
		__entry->arena = mh_family_id(family);
		__entry->lower = mh_region(lower);
		__entry->upper = mh_region(upper);
		__entry->snapshot = snapshot;
	),
	TP_printk("arena=%llu lower=%llu upper=%llu snapshot=%d",
		  __entry->arena, __entry->lower, __entry->upper, __entry->snapshot)
);

#endif /* MH_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
