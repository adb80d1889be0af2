/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Huge objects. The table is open-addressed with linear probing, at most 3/4 full,
 * deletion moves later entries of the chain up; it lives in a mapping of its own
 * and is under LOCK_HUGE.
 */
#include <string.h>
#include <sys/mman.h>

#include "huge.h"
#include "lock.h"
#include "os.h"

#define TABLE_MIN	256	/* entries, one page */

struct entry {
	uintptr_t addr;		/* 0: empty */
	size_t len;
};

static struct lock lock = LOCK_INITIALIZER(LOCK_HUGE);
static struct entry *table;
static size_t table_len;	/* a power of two */
static struct huge_usage usage;

static size_t slot_of(uintptr_t addr)
{
	return (size_t)((addr >> PAGE_SHIFT) * 0x9E3779B97F4A7C15ULL >> 20) &
	       (table_len - 1);
}

static struct entry *find(uintptr_t addr)
{
	if (!table_len)
		return NULL;
	for (size_t i = slot_of(addr); table[i].addr; i = (i + 1) & (table_len - 1))
		if (table[i].addr == addr)
			return &table[i];
	return NULL;
}

static void insert(uintptr_t addr, size_t len)
{
	size_t i = slot_of(addr);

	while (table[i].addr)
		i = (i + 1) & (table_len - 1);
	table[i] = (struct entry){ .addr = addr, .len = len };
	usage.objects++;
	usage.bytes += len;
}

/* Is @want, cyclically, in (@hole, @at]? Then the entry at @at may not move up. */
static bool stays(size_t hole, size_t want, size_t at)
{
	return hole < at ? hole < want && want <= at : hole < want || want <= at;
}

static void erase(struct entry *e)
{
	size_t hole = (size_t)(e - table);
	size_t i = hole;

	usage.objects--;
	usage.bytes -= e->len;
	for (;;) {
		i = (i + 1) & (table_len - 1);
		if (!table[i].addr)
			break;
		if (stays(hole, slot_of(table[i].addr), i))
			continue;
		table[hole] = table[i];
		hole = i;
	}
	table[hole].addr = 0;
}

/* Make room for one more entry. */
static bool reserve(void)
{
	struct entry *old = table;
	size_t old_len = table_len;
	size_t len = old_len ? old_len * 2 : TABLE_MIN;

	if ((usage.objects + 1) * 4 <= old_len * 3)
		return true;
	table = os_map(len * sizeof(*table));
	if (!table) {
		table = old;
		return false;
	}
	table_len = len;
	usage = (struct huge_usage){ 0 };
	for (size_t i = 0; i < old_len; i++)
		if (old[i].addr)
			insert(old[i].addr, old[i].len);
	if (old_len)
		os_unmap(old, old_len * sizeof(*old));
	return true;
}

/*
 * Map @len bytes at a multiple of @align: map more, cut off both ends. Two numbers of up to half
 * of what there is have a sum.
 */
static char *map_aligned(size_t len, size_t align)
{
	size_t extra = align > PAGE_SIZE ? align - PAGE_SIZE : 0;
	char *p, *start;

	p = os_map(len + extra);
	if (!p || !extra)
		return p;
	start = (char *)round_up((uintptr_t)p, align);
	if (start > p)
		os_unmap(p, (size_t)(start - p));
	if (start < p + extra)
		os_unmap(start + len, (size_t)(p + extra - start));
	return start;
}

void *huge_alloc(size_t size, size_t align)
{
	size_t len = round_up(size, PAGE_SIZE);
	char *p = map_aligned(len, align);
	bool ok;

	if (!p)
		return NULL;
	lock_acquire(&lock);
	ok = reserve();
	if (ok)
		insert((uintptr_t)p, len);
	lock_release(&lock);
	if (ok)
		return p;
	os_unmap(p, len);
	return NULL;
}

size_t huge_size(const void *p)
{
	const struct entry *e;
	size_t len;

	lock_acquire(&lock);
	e = find((uintptr_t)p);
	len = e ? e->len : 0;
	lock_release(&lock);
	return len;
}

/* The entry goes first: the address may be mapped again at once. */
bool huge_free(void *p)
{
	struct entry *e;
	size_t len = 0;

	lock_acquire(&lock);
	e = find((uintptr_t)p);
	if (e) {
		len = e->len;
		erase(e);
	}
	lock_release(&lock);
	if (!e)
		return false;
	/* The hole would be a mapping too many: then it is the address that is lost. */
	if (os_unmap(p, len))
		os_madvise(p, len, MADV_DONTNEED);
	return true;
}

/* The lock is held across the system call: nobody may see the old address. */
void *huge_realloc(void *p, size_t size)
{
	size_t len = round_up(size, PAGE_SIZE);
	struct entry *e;
	void *new = NULL;

	lock_acquire(&lock);
	e = find((uintptr_t)p);
	if (e)
		new = os_remap(p, e->len, len);
	if (new) {
		erase(e);
		insert((uintptr_t)new, len);
	}
	lock_release(&lock);
	return new;
}

/* The place that the kernel chooses may be too narrow to grow in: then they move again. */
static void *move_out(void *p, size_t len, size_t new_len)
{
	void *moved = os_move_pages(p, len);
	void *new;

	if (!moved)
		return NULL;
	new = os_remap(moved, len, new_len);
	if (!new) {
		memcpy(p, moved, len);
		os_unmap(moved, len);
	}
	return new;
}

void *huge_adopt(void *p, size_t len, size_t size)
{
	size_t new_len = round_up(size, PAGE_SIZE);
	void *new = NULL;

	lock_acquire(&lock);
	if (reserve())
		new = move_out(p, len, new_len);
	if (new)
		insert((uintptr_t)new, new_len);
	lock_release(&lock);
	return new;
}

struct huge_usage huge_usage(void)
{
	struct huge_usage u;

	lock_acquire(&lock);
	u = usage;
	lock_release(&lock);
	return u;
}

void huge_fork_prepare(void)
{
	lock_fork_acquire(&lock);
}

void huge_fork_done(void)
{
	lock_fork_release(&lock);
}
