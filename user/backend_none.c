/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * backend_none.c: private anonymous memory, for where nothing can be merged.
 *
 * Threads: no state, so any.
 */
#include <sys/mman.h>

#include "backend.h"
#include "os.h"

int backend_grow_anon(void *addr, size_t old_len, size_t new_len)
{
	return os_map_at((char *)addr + old_len, new_len - old_len);
}

static int none_purge(void *addr, size_t len)
{
	return os_madvise(addr, len, MADV_DONTNEED);
}

const struct backend_ops backend_none = {
	.name = "none",
	.arena_map = os_map_at,
	.arena_grow = backend_grow_anon,
	.purge = none_purge,
	.purge_advice = MADV_DONTNEED,
};
