/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The two page heaps and where their memory comes from: the arena's from the
 * backend, chosen when its first chunk is mapped, the other's from the system.
 */
#include <sys/mman.h>

#include "backend.h"
#include "daemon.h"
#include "os.h"
#include "pageheap.h"
#include "region.h"

/*
 * Spans of small objects are of a few lengths and fit into each other's holes. Long runs of
 * all lengths do not, and to touch them anew takes long.
 */
#define ARENA_DIRTY_SHARE	8
#define ANON_DIRTY_SHARE	2

MESH_EARLY static const struct backend_ops *backend;

static int arena_map(void *addr, size_t len)
{
	int ret;

	if (!backend)
		backend = backend_select();
	ret = backend->arena_map(addr, len);
	if (!ret)
		daemon_heap_grown(len);
	return ret;
}

static int arena_grow(void *addr, size_t old_len, size_t new_len)
{
	int ret = backend->arena_grow(addr, old_len, new_len);

	if (!ret)
		daemon_heap_grown(new_len);
	return ret;
}

static int arena_purge(void *addr, size_t len)
{
	return backend->purge(addr, len);
}

static bool arena_merged(const void *addr)
{
	return backend->merged && backend->merged(addr);
}

/* Large objects alone need a daemon, too: it gives back what they leave. */
static int anon_map(void *addr, size_t len)
{
	int ret = os_map_at(addr, len);

	if (!ret)
		daemon_heap_grown(len);
	return ret;
}

/* The kernel joins the new chunk with the mapping before it. */
static int anon_grow(void *addr, size_t old_len, size_t new_len)
{
	int ret = os_map_at((char *)addr + old_len, new_len - old_len);

	if (!ret)
		daemon_heap_grown(new_len);
	return ret;
}

static int anon_purge(void *addr, size_t len)
{
	return os_madvise(addr, len, MADV_DONTNEED);
}

static const struct pageheap_ops arena_ops = {
	.map = arena_map,
	.grow = arena_grow,
	.purge = arena_purge,
	.merged = arena_merged,
};

static const struct pageheap_ops anon_ops = {
	.map = anon_map,
	.grow = anon_grow,
	.purge = anon_purge,
	.may_skip = true,
	.may_shrink = true,
};

/*
 * Pointers here would be relocated, so their pages copied, in each process, whether it
 * allocates or not.
 */
struct pageheap heap_arena = { .lock = LOCK_INITIALIZER(LOCK_HEAP) };
struct pageheap heap_anon = { .lock = LOCK_INITIALIZER(LOCK_HEAP) };

void heaps_init(void)
{
	heap_arena.ops = &arena_ops;
	heap_arena.end = &region.arena_pages;
	heap_arena.first_page = 0;
	heap_arena.max_pages = AREA_PAGES;
	heap_arena.dirty_share = ARENA_DIRTY_SHARE;

	heap_anon.ops = &anon_ops;
	heap_anon.end = &region.anon_pages;
	heap_anon.first_page = ANON_FIRST_PAGE;
	heap_anon.max_pages = AREA_PAGES;
	heap_anon.dirty_share = ANON_DIRTY_SHARE;
}
