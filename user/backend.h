/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * backend.h: where arena memory comes from and how spans are merged.
 *
 * A backend is a table of functions. Three exist:
 *
 *	helper	memory of /dev/meshhelper, which merges spans
 *	memfd	private anonymous memory; merged spans become views of a file
 *	none	private anonymous memory; nothing is ever merged
 *
 * backend_select() picks one, once, before the first arena byte is mapped, and
 * never changes its mind. The tables are read-only.
 *
 * Threads: arena_map() and arena_grow() are called under the lock of the arena's
 * page heap, purge() by any thread. mesh_open(), merge() and mesh_close() belong
 * to the daemon thread, whose descriptors nobody else can see.
 */
#ifndef MESH_BACKEND_H
#define MESH_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Words of one bit per slot; as MESHHELPER_LIVE_WORDS. */
#define MERGE_LIVE_WORDS	4

/* Most spans that may share one set of pages. */
#define MERGE_MAX_MEMBERS	16

/**
 * struct merge_req - "let @src show the pages of @dst"
 * @src: address of the span that gives up its pages
 * @dst: address of the span whose pages both will use
 * @pages: pages in each of the spans
 * @slot_size: bytes in a slot
 * @live: the slots in use in @src's group, which are copied
 * @members: addresses of every span that shares @src's pages, @src included
 * @nr_members: how many
 * @dst_members: addresses of every span that shares @dst's pages, @dst included
 * @nr_dst_members: how many
 * @result: written back: 0 merged, else -errno and nothing has changed
 */
struct merge_req {
	uintptr_t src;
	uintptr_t dst;
	uint32_t pages;
	uint32_t slot_size;
	uint64_t live[MERGE_LIVE_WORDS];
	const uintptr_t *members;
	uint32_t nr_members;
	const uintptr_t *dst_members;
	uint32_t nr_dst_members;
	int result;
};

/**
 * struct renew_req - a span that has been merged
 * @addr: its address
 * @pages: pages in it
 * @slot_size: bytes in a slot
 * @live: the slots in use at this address
 */
struct renew_req {
	uintptr_t addr;
	uint32_t pages;
	uint32_t slot_size;
	uint64_t live[MERGE_LIVE_WORDS];
};

/**
 * struct backend_ops - one source of arena memory
 * @name: as in MESH_BACKEND and in messages
 * @arena_map: map the first @len zero bytes at @addr, where nothing may be
 *	mapped yet; 0 or -errno
 * @arena_grow: from @old_len bytes at @addr to @new_len, in place; 0 or -errno
 * @purge: give the pages of a range back; it reads as zeros after. 0 or -errno
 * @purge_advice: the madvise(2) advice that does what @purge does, for callers
 *	that batch their purges
 * @merged: does the span at @addr show what is not ordinary memory? It must not be
 *	used anew without a purge(), then. NULL: that does not matter
 * @mesh_open: daemon only: acquire what merge() needs; 0, or -errno after it has
 *	said why. NULL if this backend cannot merge
 * @frontier: daemon only: merge only spans below this page. NULL: all
 * @slice: pairs that merge() should be given at a time: fork waits for them
 * @merge: daemon only: try every request, fill in every result; bytes of PSS
 *	saved, as the kernel counts them
 * @begin_pass: daemon only, with no lock held: get ready; should the pass renew()?
 *	NULL if merges last
 * @renew: daemon only: merge a span anew if it was written to and is left alone
 *	now; whether it was. Nobody is given slots in it meanwhile
 * @ended: daemon only: nothing can be merged any more, which was said. NULL: never
 * @tidy: daemon only: give back what merges have left over, if anything. May be NULL
 * @mesh_close: daemon only: undo mesh_open()
 */
struct backend_ops {
	const char *name;
	int (*arena_map)(void *addr, size_t len);
	int (*arena_grow)(void *addr, size_t old_len, size_t new_len);
	int (*purge)(void *addr, size_t len);
	int purge_advice;
	bool (*merged)(const void *addr);
	int (*mesh_open)(void);
	uint32_t (*frontier)(void);
	unsigned int slice;
	uint64_t (*merge)(struct merge_req *reqs, unsigned int n);
	bool (*begin_pass)(void);
	bool (*renew)(const struct renew_req *req);
	bool (*ended)(void);
	void (*tidy)(void);
	void (*mesh_close)(void);
};

extern const struct backend_ops backend_helper;
extern const struct backend_ops backend_memfd;
extern const struct backend_ops backend_none;

/**
 * backend_select() - choose the backend of this process
 *
 * MESH_BACKEND decides: auto (the helper if it works, else memfd), helper, memfd
 * or none. What does not work is never an error: the process runs without
 * meshing, and MESH_VERBOSE=1 makes it say why. For memfd that turns out when the
 * daemon starts, for until then it is the same as none. Called once, while the
 * process initialises the heap.
 */
const struct backend_ops *backend_select(void);

/**
 * backend_current() - what backend_select() has chosen
 *
 * Before that, the backend that can do least.
 */
const struct backend_ops *backend_current(void);

/**
 * backend_is_shared() - is an address in memory that is shared in the eyes of the kernel?
 * @p: any address
 *
 * It knows futexes there by the page of a file, unless they are marked private. Only the
 * helper's arena is such.
 */
bool backend_is_shared(const void *p);

/**
 * backend_helper_probe() - does /dev/meshhelper work for this process?
 *
 * Return: NULL if it does, else what is missing, in a few words; @err is then
 * the errno that goes with it, or 0.
 */
const char *backend_helper_probe(int *err);

/**
 * backend_grow_anon() - arena_grow() for anonymous memory
 */
int backend_grow_anon(void *addr, size_t old_len, size_t new_len);

#endif /* MESH_BACKEND_H */
