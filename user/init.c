/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Set-up on the first allocation, which may come from the dynamic linker, before
 * any constructor, and then without the environment. Nothing here allocates
 * but libc's registration functions may: the thread that sets up passes.
 */
#include "central.h"
#include "check.h"
#include "dump.h"
#include "init.h"
#include "lock.h"
#include "options.h"
#include "os.h"
#include "pageheap.h"
#include "region.h"
#include "stats.h"
#include "tcache.h"

MESH_EARLY atomic_bool heap_ready;

MESH_EARLY static struct lock lock = LOCK_INITIALIZER(LOCK_INIT);
static MESH_TLS bool in_init;

static bool set_up_tables(void)
{
	if (!region_init())
		return false;
	heaps_init();
	if (!os_is_secure())
		options_init(os_environ());
	sizeclass_init();
	central_init();
	return true;
}

/* What may allocate. */
static void register_handlers(void)
{
	in_init = true;
	tcache_init();
	dump_init();
	in_init = false;
}

bool heap_init_slow(void)
{
	bool ready;

	if (in_init)
		return true;
	lock_acquire(&lock);
	ready = atomic_load_explicit(&heap_ready, memory_order_relaxed);
	if (!ready && set_up_tables()) {
		register_handlers();
		ready = true;
		/* pairs with the acquire in heap_init() */
		atomic_store_explicit(&heap_ready, true, memory_order_release);
	}
	lock_release(&lock);
	return ready;
}

/* After the destructors of everything that was loaded later. */
__attribute__((destructor)) static void at_exit(void)
{
	if (options.check)
		check_exit();
	if (options.stats)
		stats_dump(2);
	if (options.mallocstats)
		stats_brief(2, options.mallocstats);
}
