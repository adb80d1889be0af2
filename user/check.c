/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Trailers, fillings and the quarantine, a ring of the slots that were freed last.
 */
#include <string.h>

#include "alloc.h"
#include "central.h"
#include "check.h"
#include "lock.h"
#include "message.h"
#include "os.h"

/* What an object has before it is written to, after it was freed, and behind its end. */
#define FILL_NEW	0xa5
#define FILL_FREED	0xdf
#define FILL_SLACK	0xfb

enum slot_state { IN_USE, FREED, BROKEN };

static struct lock lock = LOCK_INITIALIZER(LOCK_CHECK);
static void **ring;
static unsigned int oldest, nr;
static size_t bytes;

static uint64_t *trailer_of(const void *p, unsigned int cls)
{
	return (uint64_t *)((uintptr_t)p + sizeclasses[cls].size - CHECK_ROOM);
}

/* 48 bits that an overflow or another slot's trailer will not have by chance. */
static uint64_t mark_of(const void *p, enum slot_state state)
{
	return ((uintptr_t)p + state) * 0x9e3779b97f4a7c15ULL >> 16;
}

static void set_trailer(void *p, unsigned int cls, enum slot_state state, size_t size)
{
	*trailer_of(p, cls) = mark_of(p, state) | (uint64_t)size << 48;
}

static enum slot_state state_of(const void *p, unsigned int cls, size_t *size)
{
	uint64_t trailer = *trailer_of(p, cls);
	uint64_t mark = trailer & ~0ULL >> 16;

	*size = trailer >> 48;
	if (*size > sizeclasses[cls].size - CHECK_ROOM)
		return BROKEN;
	if (mark == mark_of(p, IN_USE))
		return IN_USE;
	return mark == mark_of(p, FREED) ? FREED : BROKEN;
}

/* The first byte from @from to the trailer that is not @fill any more, or NULL. */
static const unsigned char *changed(const void *p, unsigned int cls, size_t from, int fill)
{
	const unsigned char *byte = (const unsigned char *)p + from;
	const unsigned char *end = (const unsigned char *)trailer_of(p, cls);

	/* all are as the first one: quicker than one by one */
	if (byte < end && *byte == fill && !memcmp(byte, byte + 1, (size_t)(end - byte) - 1))
		return NULL;
	while (byte < end && *byte == fill)
		byte++;
	return byte < end ? byte : NULL;
}

void *check_alloc(void *p, unsigned int cls, size_t size)
{
	if (!p)
		return NULL;
	memset(p, FILL_NEW, size);
	memset((char *)p + size, FILL_SLACK, sizeclasses[cls].size - CHECK_ROOM - size);
	set_trailer(p, cls, IN_USE, size);
	return p;
}

_Noreturn MESH_COLD static void broken_trailer(const void *p, unsigned int cls)
{
	fatal("overflow of %p, in a slot of %u bytes: the last ones were written to", p,
	      sizeclasses[cls].size);
}

_Noreturn MESH_COLD static void overflow(const void *p, size_t size, const void *byte)
{
	fatal("overflow of %p, an object of %zu bytes: byte %zu was written to", p, size,
	      (size_t)((uintptr_t)byte - (uintptr_t)p));
}

/* The size of an object that must not be FREED: *@freed is set if it is. */
static size_t examine(const void *p, unsigned int cls, bool *freed)
{
	const unsigned char *byte;
	enum slot_state state;
	size_t size;

	central_must_have(cls, p);
	state = state_of(p, cls, &size);
	if (state == BROKEN)
		broken_trailer(p, cls);
	*freed = state == FREED;
	byte = *freed ? NULL : changed(p, cls, size, FILL_SLACK);
	if (byte)
		overflow(p, size, byte);
	return size;
}

size_t check_size(const void *p, unsigned int cls)
{
	bool freed;
	size_t size = examine(p, cls, &freed);

	if (freed)
		fatal("use after free of %p, an object of %zu bytes: its size is wanted", p, size);
	return size;
}

static void must_be_untouched(const void *p, unsigned int cls)
{
	const unsigned char *byte = changed(p, cls, 0, FILL_FREED);
	size_t size;

	if (state_of(p, cls, &size) != FREED)
		fatal("use after free of %p, in a slot of %u bytes: the last ones were written to",
		      p, sizeclasses[cls].size);
	if (byte)
		fatal("use after free of %p, an object of %zu bytes: byte %zu was written to", p,
		      size, (size_t)(byte - (const unsigned char *)p));
}

static void *take_oldest(void)
{
	void *p = nr ? ring[oldest] : NULL;

	if (!p)
		return NULL;
	oldest = (oldest + 1) % CHECK_SLOTS;
	nr--;
	bytes -= sizeclasses[class_of(p)].size;
	return p;
}

/* A slot for which there is no room in the ring besides @p, which may be NULL; or NULL. */
static void *evict_for(void *p)
{
	void *out = NULL;

	lock_acquire(&lock);
	if (!ring)
		ring = os_map(CHECK_SLOTS * sizeof(*ring));
	if (!ring) {
		out = p;
	} else {
		if (nr + !!p > CHECK_SLOTS || bytes > CHECK_BYTES)
			out = take_oldest();
		if (p) {
			ring[(oldest + nr++) % CHECK_SLOTS] = p;
			bytes += sizeclasses[class_of(p)].size;
		}
	}
	lock_release(&lock);
	return out;
}

void check_free(void *p, unsigned int cls)
{
	bool freed;
	size_t size = examine(p, cls, &freed);

	if (freed)
		fatal("double free of %p, an object of %zu bytes", p, size);
	memset(p, FILL_FREED, sizeclasses[cls].size - CHECK_ROOM);
	set_trailer(p, cls, FREED, size);
	for (p = evict_for(p); p; p = evict_for(NULL)) {
		cls = class_of(p);
		must_be_untouched(p, cls);
		central_return(cls, &p, 1);
	}
}

void check_exit(void)
{
	void *p;

	/* One by one: the program may handle SIGABRT, and free there. */
	do {
		lock_acquire(&lock);
		p = take_oldest();
		lock_release(&lock);
		if (p)
			must_be_untouched(p, class_of(p));
	} while (p);
}

void check_fork_prepare(void)
{
	lock_fork_acquire(&lock);
}

void check_fork_done(void)
{
	lock_fork_release(&lock);
}
