/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * MALLOCSTATS: the summary at exit whose first lines scripts know from other versions of
 * Mesh ("MH" is a span there), and what those did not tell.
 */
#include "central.h"
#include "mesher.h"
#include "stats.h"

static unsigned long counter(atomic_ulong *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

/* Megabytes with one digit after the point. */
static void line_mb(struct text *t, const char *what, unsigned long pages)
{
	unsigned long tenths = pages * (PAGE_SIZE / 1024) * 10 / 1024;

	text_printf(t, "%-21s%lu.%lu\n", what, tenths / 10, tenths % 10);
}

static void line(struct text *t, const char *what, unsigned long n)
{
	text_printf(t, "%-21s%lu\n", what, n);
}

static void known_lines(struct text *t)
{
	unsigned long hwm = counter(&mesh_stats.pages_meshed_hwm);
	unsigned long made = central_spans_made(), now = central_spans_now();

	line(t, "MESH COUNT:", counter(&mesh_stats.merged));
	line_mb(t, "Meshed MB (total):", counter(&mesh_stats.pages_merged));
	line(t, "Meshed pages HWM:", hwm);
	line_mb(t, "Meshed MB HWM:", hwm);
	line(t, "MH Alloc Count:", made);
	line(t, "MH Free  Count:", made - now);
	line(t, "MH High Water Mark:", central_spans_hwm());
}

static void new_lines(struct text *t)
{
	struct stats s;

	stats_collect(&s);
	line(t, "Live bytes:", stats_allocated(&s));
	line(t, "Resident bytes:", stats_resident());
	line(t, "Saved bytes now:", s.meshed);
	line(t, "Longest pause us:", counter(&mesh_stats.longest_ns) / 1000);
	line(t, "Meshing time ms:", counter(&mesh_stats.mesh_ns) / 1000000);
}

void stats_brief(int fd, unsigned int level)
{
	char buf[1024];
	struct text t = { .fd = fd, .size = sizeof(buf), .buf = buf };

	known_lines(&t);
	new_lines(&t);
	text_flush(&t);
	if (level > 1)
		stats_dump(fd);
}
