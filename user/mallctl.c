/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * mesh_mallctl(): a table of names, each with what reads, sets or does it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "central.h"
#include "init.h"
#include "mesh.h"
#include "mesher.h"
#include "options.h"
#include "stats.h"
#include "tcache.h"

/**
 * struct control - one name
 * @name: as the program gives it
 * @get: reads the value; 0 or an errno; NULL: there is none
 * @set: sets it; 0 or an errno; NULL: it cannot be set
 * @act: does what a name without a value stands for
 */
struct control {
	const char *name;
	int (*get)(size_t *value);
	int (*set)(size_t value);
	void (*act)(void);
};

static int get_period(size_t *value)
{
	*value = options_period_ms();
	return 0;
}

static int set_period(size_t value)
{
	return options_set_period_ms(value) ? 0 : EINVAL;
}

static void compact(void)
{
	malloc_trim(0);
}

static void scavenge(void)
{
	tcache_flush();
	central_return_waiting();
	pageheap_purge(&heap_arena, SIZE_MAX);
	pageheap_purge(&heap_anon, SIZE_MAX);
}

static int get_merges(size_t *value)
{
	*value = atomic_load_explicit(&mesh_stats.merged, memory_order_relaxed);
	return 0;
}

static int get_allocated(size_t *value)
{
	struct stats s;

	stats_collect(&s);
	*value = stats_allocated(&s);
	return 0;
}

static int get_active(size_t *value)
{
	struct stats s;

	stats_collect(&s);
	*value = s.arena.in_use + s.anon.in_use + s.huge.bytes - s.meshed;
	return 0;
}

static int get_meshed(size_t *value)
{
	struct stats s;

	stats_collect(&s);
	*value = s.meshed;
	return 0;
}

static int get_mapped(size_t *value)
{
	struct stats s;

	stats_collect(&s);
	*value = s.arena.mapped + s.anon.mapped + s.huge.bytes;
	return 0;
}

static int get_resident(size_t *value)
{
	*value = stats_resident();
	return *value ? 0 : EIO;
}

static const struct control controls[] = {
	{ "mesh.check_period", .get = get_period, .set = set_period },
	{ "mesh.compact", .act = compact },
	{ "mesh.merges", .get = get_merges },
	{ "mesh.scavenge", .act = scavenge },
	{ "stats.active", .get = get_active },
	{ "stats.allocated", .get = get_allocated },
	{ "stats.mapped", .get = get_mapped },
	{ "stats.meshed", .get = get_meshed },
	{ "stats.resident", .get = get_resident },
};

static const struct control *find(const char *name)
{
	for (unsigned int i = 0; i < sizeof(controls) / sizeof(controls[0]); i++)
		if (!strcmp(controls[i].name, name))
			return &controls[i];
	return NULL;
}

/* All that can be wrong is found before anything is done. */
static int check(const struct control *c, void *oldp, size_t *oldlenp, void *newp,
		 size_t newlen)
{
	if (!c)
		return ENOENT;
	if (c->act)
		return 0;
	if (newp && !c->set)
		return EPERM;
	if ((oldp && (!oldlenp || *oldlenp != sizeof(size_t))) ||
	    (newp && newlen != sizeof(size_t)))
		return EINVAL;
	return 0;
}

static int perform(const struct control *c, void *oldp, void *newp)
{
	size_t value;
	int err = 0;

	if (c->act) {
		c->act();
		return 0;
	}
	if (oldp) {
		err = c->get(&value);
		if (!err)
			memcpy(oldp, &value, sizeof(value));
	}
	if (newp && !err) {
		memcpy(&value, newp, sizeof(value));
		err = c->set(value);
	}
	return err;
}

MESH_EXPORT int mesh_mallctl(const char *name, void *oldp, size_t *oldlenp, void *newp,
			     size_t newlen)
{
	const struct control *c = find(name);
	int saved_errno = errno, err;

	err = heap_init() ? check(c, oldp, oldlenp, newp, newlen) : ENOMEM;
	if (!err)
		err = perform(c, oldp, newp);
	errno = saved_errno;
	return err;
}
