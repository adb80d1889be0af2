/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * fake_heap.h: what the mesher sees of the heap, without a heap: groups of spans
 * whose live slots the test chooses, dirty runs, and a backend that merges in its
 * books only and checks every request against them.
 */
#ifndef FAKE_HEAP_H
#define FAKE_HEAP_H

#include <stdbool.h>

#include "backend.h"
#include "central.h"
#include "pageheap.h"

#define FAKE_SPANS	20000

/* Percent of merges that the backend refuses. */
extern unsigned int fake_refusals;

/* Microseconds that a batch takes. */
extern unsigned int fake_merge_us;

/* Batches that reached the backend, and times mesh_open() was called. */
extern atomic_uint fake_batches;
extern atomic_uint fake_opens;

void fake_reset(void);

/* A new span of @cls with @live slots in use at random places. */
void fake_add_span(unsigned int cls, unsigned int live);

/* Groups that are left; aborts if one is out of order or isolated. */
unsigned int fake_check(unsigned int cls);

/* A dirty run of one page, filled; false when the fake has no more room. */
bool fake_add_dirty(struct pageheap *ph);

#endif /* FAKE_HEAP_H */
