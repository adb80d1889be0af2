/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * small_heap.h: spans of an arena that a test merges and lets die by itself, with a
 * backend that is real, and a model of what each slot must contain.
 *
 * Live slot i of span s is filled with a byte that depends on s, i and how often it
 * was written to. Functions end the test with a message when something is wrong.
 */
#ifndef SMALL_HEAP_H
#define SMALL_HEAP_H

#include "backend.h"
#include "check.h"
#include "compiler.h"

#define HEAP_SPANS	1024
#define SLOT_SIZE	256u

/**
 * struct small_heap - all there is
 * @ops: backend; mesh_open() has been called
 * @nr: spans
 * @pages: pages in each
 */
struct small_heap {
	const struct backend_ops *ops;
	unsigned int nr;
	unsigned int pages;
};

extern struct small_heap heap;

/* Map @nr spans of @pages pages, all slots free. */
void heap_open(const struct backend_ops *ops, unsigned int nr, unsigned int pages);

char *span_at_index(unsigned int span);
char *slot_at(unsigned int span, unsigned int slot);
unsigned int slots_per_span(void);

/*
 * Make a slot live, write to one, free it, and compare all that are live; to mark one
 * is to make it live without contents that are known here.
 */
void heap_mark(unsigned int span, unsigned int slot);
void heap_fill(unsigned int span, unsigned int slot);
void heap_write(unsigned int span, unsigned int slot);
void heap_free(unsigned int span, unsigned int slot);
void heap_verify(void);
bool heap_is_live(unsigned int span, unsigned int slot);

/* Live slots: slot @span % slots of every span, so that neighbours can be merged. */
void heap_fill_diagonal(void);

/* Merge the groups of two spans; the backend's result. They must not collide. */
int heap_merge(unsigned int src, unsigned int dst);

/* Can the groups of two spans be merged? */
bool heap_may_merge(unsigned int src, unsigned int dst);

/* Merge a span anew if it was written to; whether the backend has done that. */
bool heap_renew(unsigned int span);

/* All slots of a span are freed, it leaves its group and is purged. */
int heap_kill(unsigned int span);

unsigned int heap_group_size(unsigned int span);

/* Physical frame of the first page of a span; skips the test for who may not know. */
uint64_t frame_of(unsigned int span);

#endif /* SMALL_HEAP_H */
