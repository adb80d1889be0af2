/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* init.h: one-time set-up, and the fork handlers. */
#ifndef MESH_INIT_H
#define MESH_INIT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "compiler.h"

extern atomic_bool heap_ready;

bool heap_init_slow(void);

/**
 * heap_init() - make the heap usable, on the first allocation of the process
 *
 * Return: false when there is no memory even for that; tried again next time.
 */
static inline bool heap_init(void)
{
	/* pairs with the release in heap_init_slow() */
	if (likely(atomic_load_explicit(&heap_ready, memory_order_acquire)))
		return true;
	return heap_init_slow();
}

#endif /* MESH_INIT_H */
