/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* What malloc(3) tells about itself: statistics, trim, and parameters it ignores. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

#include "central.h"
#include "daemon.h"
#include "init.h"
#include "pageheap.h"
#include "stats.h"
#include "tcache.h"

/*
 * The calling thread's cache and the transfer caches go back to the spans first, so that
 * they can be meshed; what the daemon leaves is purged here.
 */
MESH_EXPORT int malloc_trim(size_t pad)
{
	size_t pages;
	bool meshed;

	(void)pad;
	if (!heap_init())
		return 0;
	tcache_flush();
	central_return_waiting();
	meshed = daemon_trim();
	pages = pageheap_purge(&heap_arena, SIZE_MAX);
	pages += pageheap_purge(&heap_anon, SIZE_MAX);
	pageheap_shrink(&heap_anon);
	return meshed || pages;
}

MESH_EXPORT void malloc_stats(void)
{
	stats_dump(2);
}

MESH_EXPORT struct mallinfo2 mallinfo2(void)
{
	struct stats s;
	size_t arena, used;

	stats_collect(&s);
	arena = s.arena.mapped + s.anon.mapped;
	used = s.slots_used + s.large;
	return (struct mallinfo2){
		.arena = arena,
		.ordblks = 1,
		.hblks = s.huge.objects,
		.hblkhd = s.huge.bytes,
		.uordblks = used,
		.fordblks = arena - used,
		.keepcost = s.arena.dirty + s.anon.dirty,
	};
}

static int to_int(size_t x)
{
	return x > INT_MAX ? INT_MAX : (int)x;
}

MESH_EXPORT struct mallinfo mallinfo(void)
{
	struct mallinfo2 m = mallinfo2();

	return (struct mallinfo){
		.arena = to_int(m.arena),
		.ordblks = to_int(m.ordblks),
		.hblks = to_int(m.hblks),
		.hblkhd = to_int(m.hblkhd),
		.uordblks = to_int(m.uordblks),
		.fordblks = to_int(m.fordblks),
		.keepcost = to_int(m.keepcost),
	};
}

/* The stream is the caller's and may allocate: it is written to with no lock held. */
MESH_EXPORT int malloc_info(int opts, FILE *stream)
{
	char buf[16384];
	struct text t = { .fd = -1, .size = sizeof(buf), .buf = buf };

	if (opts != 0) {
		errno = EINVAL;
		return -1;
	}
	stats_xml(&t);
	return fwrite(t.buf, 1, t.len, stream) == t.len ? 0 : -1;
}

/* Parameters of glibc's allocator are understood, and mean nothing here. */
MESH_EXPORT int mallopt(int param, int value)
{
	(void)value;
	switch (param) {
	case M_MXFAST:
	case M_TRIM_THRESHOLD:
	case M_TOP_PAD:
	case M_MMAP_THRESHOLD:
	case M_MMAP_MAX:
	case M_CHECK_ACTION:
	case M_PERTURB:
	case M_ARENA_TEST:
	case M_ARENA_MAX:
		return 1;
	default:
		return 0;
	}
}
