/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * MESH_CHECK=1: what is done to slots to find misuse. The caches of threads stay empty
 * then, so that each slot goes through here, and nothing is tested on the fast paths when
 * the option is off.
 *
 *	slot in use	| object, as long as requested | slack, filled | trailer |
 *	slot freed	| filled                                       | trailer |
 *
 * The trailer says that the slot is in use or freed, and the requested size, mixed with
 * the address. A freed slot waits in quarantine, where it counts as in use: so it is not
 * handed out, and when its page is merged nobody else's object is in its bytes. What was
 * written to it meanwhile is found when it leaves, or when the program exits.
 */
#ifndef MESH_CHECK_H
#define MESH_CHECK_H

#include <stddef.h>

#include "compiler.h"
#include "options.h"

/* Bytes of the trailer. */
#define CHECK_ROOM	((size_t)8)

/* How many slots may be in quarantine, and how many bytes they may have together. */
#define CHECK_SLOTS	1024u
#define CHECK_BYTES	((size_t)1 << 20)

/**
 * check_room() - bytes that a slot must have beyond what was requested
 */
static inline size_t check_room(void)
{
	return unlikely(options.check) ? CHECK_ROOM : 0;
}

/**
 * check_alloc() - make a slot an object
 * @p: slot, or NULL
 * @cls: its size class
 * @size: bytes that were requested, at most CHECK_ROOM less than the slot has
 *
 * Return: @p
 */
void *check_alloc(void *p, unsigned int cls, size_t size);

/**
 * check_free() - put an object into quarantine, and return slots that leave it
 * @p: aligned address in a page of slots; aborts unless it is an object in use
 * @cls: size class of the page
 *
 * With no lock held. Keeps errno.
 */
void check_free(void *p, unsigned int cls);

/**
 * check_size() - the size that was requested
 * @p: address in a page of slots; aborts unless it is an object in use
 * @cls: size class of the page
 */
size_t check_size(const void *p, unsigned int cls);

/**
 * check_exit() - look at everything in quarantine once more
 */
void check_exit(void);

void check_fork_prepare(void);
void check_fork_done(void);

#endif /* MESH_CHECK_H */
