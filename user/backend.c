/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * backend.c: the choice of a backend.
 *
 * Threads: the choice is made once, under the lock of the arena's page heap;
 * afterwards anybody may ask for it.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <string.h>

#include "backend.h"
#include "message.h"
#include "options.h"
#include "region.h"

static const struct backend_ops *_Atomic current;

static void explain(const char *effect, const char *what, int err)
{
	if (err)
		verbose("%s: %s: %s", effect, what, strerrordesc_np(err));
	else
		verbose("%s: %s", effect, what);
}

static const struct backend_ops *choose(void)
{
	const char *missing;
	int err = 0;

	if (options.backend == BACKEND_NONE) {
		explain("no meshing", "MESH_BACKEND=none", 0);
		return &backend_none;
	}
	if (options.backend == BACKEND_MEMFD)
		return &backend_memfd;
	missing = backend_helper_probe(&err);
	if (!missing)
		return &backend_helper;
	if (options.backend == BACKEND_HELPER) {
		explain("no meshing", missing, err);
		return &backend_none;
	}
	explain("memfd instead of helper", missing, err);
	return &backend_memfd;
}

const struct backend_ops *backend_select(void)
{
	const struct backend_ops *ops = choose();

	atomic_store_explicit(&current, ops, memory_order_release);
	return ops;
}

const struct backend_ops *backend_current(void)
{
	const struct backend_ops *ops;

	ops = atomic_load_explicit(&current, memory_order_acquire);
	return ops ? ops : &backend_none;
}

bool backend_is_shared(const void *p)
{
	return region_page(p) < AREA_PAGES && backend_current() == &backend_helper;
}
