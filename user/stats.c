/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Collecting and printing statistics. Takes one lock at a time, allocates nothing. */
#include <string.h>

#include "central.h"
#include "large.h"
#include "mesher.h"
#include "pageheap.h"
#include "proc.h"
#include "stats.h"
#include "tcache.h"

static void collect_class(struct class_stats *out, struct central *c)
{
	lock_acquire(&c->lock);
	out->spans = c->nr_spans;
	out->groups = c->nr_groups;
	out->live = c->nr_live;
	out->cached = c->transfer.nr;
	out->refills = c->nr_refills;
	out->returns = c->nr_returns;
	lock_release(&c->lock);
}

static void collect_heap(struct heap_stats *out, struct pageheap *ph)
{
	lock_acquire(&ph->lock);
	out->mapped = ph->nr_pages << PAGE_SHIFT;
	out->clean = ph->clean.pages << PAGE_SHIFT;
	out->dirty = ph->dirty.pages << PAGE_SHIFT;
	out->purging = ph->purging_pages << PAGE_SHIFT;
	out->lost = ph->lost_pages << PAGE_SHIFT;
	out->purged = ph->purged_pages << PAGE_SHIFT;
	lock_release(&ph->lock);
	out->in_use = out->mapped - out->clean - out->dirty - out->purging - out->lost;
}

static void sum_class(struct stats *s, unsigned int cls)
{
	const struct sizeclass *sc = &sizeclasses[cls];
	const struct class_stats *c = &s->classes[cls];
	size_t span = (size_t)sc->pages << PAGE_SHIFT;
	size_t slots = c->spans * sc->slots;

	s->span_bytes += c->spans * span;
	s->meshed += (c->spans - c->groups) * span;
	s->slots_cached += c->cached * sc->size;
	s->slots_used += (c->live - c->cached) * sc->size;
	s->slots_free += (slots - c->live) * sc->size;
	s->slots_waste += c->spans * (span - (size_t)sc->slots * sc->size);
}

void stats_collect(struct stats *s)
{
	size_t cached[NR_CLASSES] = { 0 }, in_use;

	memset(s, 0, sizeof(*s));
	s->threads = tcache_count(cached);
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		collect_class(&s->classes[cls], &centrals[cls]);
		cached[cls] += s->classes[cls].cached;
		s->classes[cls].cached = min_size(cached[cls], s->classes[cls].live);
		sum_class(s, cls);
	}
	collect_heap(&s->arena, &heap_arena);
	collect_heap(&s->anon, &heap_anon);
	s->huge = huge_usage();
	/* Spans may have come and gone since they were counted. */
	in_use = s->arena.in_use + s->anon.in_use;
	s->large = in_use > s->span_bytes ? in_use - s->span_bytes : 0;
	s->meshed = min_size(s->meshed, in_use);
}

size_t stats_allocated(const struct stats *s)
{
	return s->slots_used + s->large + s->huge.bytes;
}

size_t stats_resident(void)
{
	long kb = proc_number("/proc/self/smaps_rollup", "\nPss:");

	return kb > 0 ? (size_t)kb << 10 : 0;
}

static void text_line(struct text *t, const char *what, size_t bytes)
{
	text_printf(t, "  %-56s %14zu\n", what, bytes);
}

static void text_classes(struct text *t, const struct stats *s)
{
	text_printf(t, "  %6s %8s %8s %10s %8s %10s %10s\n", "size", "spans", "meshed",
		    "used", "cached", "refills", "returns");
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		const struct class_stats *c = &s->classes[cls];

		if (!c->refills)
			continue;
		text_printf(t, "  %6u %8zu %8zu %10zu %8zu %10lu %10lu\n",
			    sizeclasses[cls].size, c->spans, c->spans - c->groups,
			    c->live - c->cached, c->cached, c->refills, c->returns);
	}
}

static void text_heap(struct text *t, const char *name, const struct heap_stats *h)
{
	text_printf(t, "%s, bytes\n", name);
	text_line(t, "in use", h->in_use);
	text_line(t, "+ free, dirty", h->dirty);
	text_line(t, "+ free, clean", h->clean);
	text_line(t, "+ free, being given back", h->purging);
	text_line(t, "+ unusable", h->lost);
	text_line(t, "= address space", h->mapped);
	text_line(t, "given back so far", h->purged);
}

static void text_program(struct text *t, const struct stats *s)
{
	text_printf(t, "program, bytes\n");
	text_line(t, "slots", s->slots_used);
	text_line(t, "+ large objects", s->large);
	text_line(t, "+ huge objects", s->huge.bytes);
	text_line(t, "= in use by the program", stats_allocated(s));
}

static void text_spans(struct text *t, const struct stats *s)
{
	text_printf(t, "spans, bytes\n");
	text_line(t, "slots of the program", s->slots_used);
	text_line(t, "+ slots in caches", s->slots_cached);
	text_line(t, "+ free slots", s->slots_free);
	text_line(t, "+ ends of spans", s->slots_waste);
	text_line(t, "= spans", s->span_bytes);
	text_line(t, "- sharing the pages of another", s->meshed);
	text_line(t, "= pages of spans", s->span_bytes - s->meshed);
}

static void text_mesher(struct text *t)
{
	text_printf(t, "meshing\n");
#define MESH_STAT(field, meaning) \
	text_line(t, meaning, atomic_load_explicit(&mesh_stats.field, \
						   memory_order_relaxed));
#include "stats.def"
#undef MESH_STAT
}

static void print(struct text *t, const struct stats *s)
{
	text_printf(t, "libmesh: statistics of version %s, %u thread caches\n", MESH_VERSION,
		    s->threads);
	text_classes(t, s);
	text_program(t, s);
	text_spans(t, s);
	text_heap(t, "arena", &s->arena);
	text_heap(t, "anon", &s->anon);
	text_mesher(t);
}

static void dump(int fd, const struct stats *s)
{
	char buf[1024];
	struct text t = { .fd = fd, .size = sizeof(buf), .buf = buf };

	print(&t, s);
	text_flush(&t);
}

void stats_dump(int fd)
{
	struct stats s;

	stats_collect(&s);
	dump(fd, &s);
}

/* Nobody waits until it is printed: who reads it may be slow. */
void stats_daemon_dump(int fd)
{
	struct stats s;

	mesher_lock();
	stats_collect(&s);
	mesher_unlock();
	dump(fd, &s);
}

/* Groups by how full they are: eighths, then the full ones, then how many are being meshed. */
static void histogram_class(struct text *t, unsigned int cls)
{
	size_t counts[CENTRAL_LISTS], full, meshing;

	mesher_lock();
	central_histogram(cls, counts, &full, &meshing);
	mesher_unlock();
	text_printf(t, "  %6u", sizeclasses[cls].size);
	for (unsigned int i = 0; i < CENTRAL_LISTS; i++)
		text_printf(t, " %7zu", counts[i]);
	text_printf(t, " %7zu %7zu\n", full, meshing);
}

void stats_histogram_dump(int fd)
{
	char buf[1024];
	struct text t = { .fd = fd, .size = sizeof(buf), .buf = buf };

	text_printf(&t, "libmesh: mesh groups by size and eighths of their slots in use\n");
	text_printf(&t, "  %6s", "size");
	for (unsigned int i = 0; i < CENTRAL_LISTS; i++)
		text_printf(&t, "    <%u/%u", i + 1, CENTRAL_LISTS);
	text_printf(&t, " %7s %7s\n", "full", "meshing");
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		if (centrals[cls].nr_spans)
			histogram_class(&t, cls);
	text_flush(&t);
}

static void xml_heap(struct text *t, const char *name, const struct heap_stats *h)
{
	text_printf(t, "<heap name=\"%s\">\n", name);
	text_printf(t, "<system type=\"current\" size=\"%zu\"/>\n", h->mapped);
	text_printf(t, "<in-use size=\"%zu\"/>\n", h->in_use);
	text_printf(t, "<free type=\"dirty\" size=\"%zu\"/>\n", h->dirty);
	text_printf(t, "<free type=\"clean\" size=\"%zu\"/>\n", h->clean);
	text_printf(t, "</heap>\n");
}

static void xml_classes(struct text *t, const struct stats *s)
{
	text_printf(t, "<sizes>\n");
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		const struct class_stats *c = &s->classes[cls];

		if (c->spans)
			text_printf(t, "<size slot=\"%u\" spans=\"%zu\" meshed=\"%zu\" "
				    "used=\"%zu\" cached=\"%zu\"/>\n",
				    sizeclasses[cls].size, c->spans, c->spans - c->groups,
				    c->live - c->cached, c->cached);
	}
	text_printf(t, "</sizes>\n");
}

void stats_xml(struct text *t)
{
	struct stats s;

	stats_collect(&s);
	text_printf(t, "<malloc version=\"mesh-1\">\n");
	xml_classes(t, &s);
	xml_heap(t, "arena", &s.arena);
	xml_heap(t, "anon", &s.anon);
	text_printf(t, "<total type=\"slots\" size=\"%zu\"/>\n", s.slots_used);
	text_printf(t, "<total type=\"large\" size=\"%zu\"/>\n", s.large);
	text_printf(t, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", s.huge.objects,
		    s.huge.bytes);
	text_printf(t, "<total type=\"meshed\" size=\"%zu\"/>\n", s.meshed);
	text_printf(t, "</malloc>\n");
}
