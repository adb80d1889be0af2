/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Files, and when they may be changed. What a relative can see of a file it was
 * forked with. Forks that come after a slot's last view is gone do not matter, and
 * those that come before it is written to see it as free; so it is enough to ask for
 * relatives in between.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "mesher.h"
#include "os.h"
#include "region.h"
#include "slots.h"
#include "store.h"
#include "witness.h"

/**
 * struct file - one file
 * @fd: descriptor, -1 for the parent's
 * @epoch: since when relatives can see it; 0: there is no such file
 */
struct file {
	int fd;
	unsigned long epoch;
};

/* By number; 0 is none. */
static struct file files[SLOT_FILES];
static unsigned int current;

static uint64_t offset_of(uint32_t slot)
{
	return (uint64_t)slot << PAGE_SHIFT;
}

/*
 * Where shared memory always gets huge pages, a write into a hole would make one, and most
 * of it would be of no use. A fault in a view that does not want them makes small ones.
 * Nothing else is done with that view.
 */
#define WINDOW	((size_t)8 * PAGE_SIZE)

static char *window;
static bool want_small;

/* The slot that was written to last: it has pages. */
static uint32_t made = SLOT_NONE;

static int make_small_pages(int fd, uint64_t offset, size_t len)
{
	int ret;

	if (!window)
		window = os_map(WINDOW);
	if (!window || len > WINDOW)
		return -ENOMEM;
	ret = os_map_file_over(window, len, fd, offset);
	if (ret) {
		/* There may be a hole now, which is anybody's. */
		window = NULL;
		return ret;
	}
	ret = os_madvise(window, len, MADV_NOHUGEPAGE);
	if (!ret)
		ret = os_madvise(window, len, MADV_POPULATE_READ);
	if (os_map_over(window, len))
		window = NULL;
	return ret;
}

/* Does the kernel put huge pages into the file? Then holes would free nothing. */
static int try_page(int fd)
{
	static const char page[PAGE_SIZE];
	long ret = want_small ? make_small_pages(fd, 0, PAGE_SIZE) : 0;

	if (!ret)
		ret = os_write_at(fd, page, PAGE_SIZE, 0);
	if (ret < 0)
		return (int)ret;
	if (os_blocks(fd) > (int64_t)(PAGE_SIZE / 512))
		return -EMEDIUMTYPE;
	return os_punch(fd, 0, PAGE_SIZE);
}

static int try_fd(void)
{
	int ret, fd = os_memfd("mesh", false);

	if (fd < 0)
		return fd;
	ret = os_truncate(fd, offset_of(AREA_PAGES));
	if (!ret)
		ret = try_page(fd);
	if (ret) {
		os_close(fd);
		return ret;
	}
	return fd;
}

static int make_fd(void)
{
	int fd = try_fd();

	if (fd != -EMEDIUMTYPE || want_small)
		return fd;
	want_small = true;
	return try_fd();
}

static unsigned int unused_number(void)
{
	for (unsigned int i = 1; i < SLOT_FILES; i++)
		if (!files[i].epoch)
			return i;
	return 0;
}

/* Begin a new file. */
static int make_file(void)
{
	unsigned int i = unused_number();
	struct file *f = &files[i];
	unsigned long epoch;

	if (!i)
		return -EMFILE;
	epoch = witness_epoch();
	if (!epoch)
		return -EMFILE;
	f->fd = make_fd();
	if (f->fd < 0)
		return f->fd;
	f->epoch = epoch;
	current = i;
	return 0;
}

/* The parent's descriptors do not exist here; its daemon had them to itself. */
int store_open(void)
{
	int ret = witness_open();

	if (ret)
		return ret;
	for (unsigned int i = 1; i < SLOT_FILES; i++)
		files[i].fd = -1;
	current = 0;
	ret = make_file();
	if (ret)
		witness_close();
	return ret;
}

int store_ready(void)
{
	if (current && (!slots_nr_used(current) || witness_none_since(files[current].epoch)))
		return 0;
	return make_file();
}

bool store_claim(uint32_t slot, unsigned int nr)
{
	made = SLOT_NONE;
	return slots_claim(slot, nr, current);
}

bool store_is_current(uint32_t slot)
{
	return slots_file(slot) == current;
}

/* A slot is written to as a whole first. */
static int make_slot(uint32_t slot, size_t off, size_t len)
{
	size_t first = off & -PAGE_SIZE;
	int ret = make_small_pages(files[current].fd, offset_of(slot) + first,
				   round_up(off + len, PAGE_SIZE) - first);

	if (!ret)
		made = slot;
	return ret;
}

int store_write(uint32_t slot, size_t off, const void *buf, size_t len)
{
	long ret = want_small && slot != made ? make_slot(slot, off, len) : 0;

	if (ret < 0)
		return (int)ret;
	ret = os_write_at(files[current].fd, buf, len, offset_of(slot) + off);

	if (ret < 0)
		return (int)ret;
	return (size_t)ret == len ? 0 : -EIO;
}

int store_map(uintptr_t addr, size_t len, uint32_t slot)
{
	return os_map_file_over((void *)addr, len, files[current].fd, offset_of(slot));
}

static void drop_file(unsigned int i)
{
	if (files[i].fd >= 0)
		os_close(files[i].fd);
	files[i].epoch = 0;
}

/* Only a number is left of a file of the parent's: its slots can be used anew. */
static bool may_punch(const struct file *f)
{
	return f->fd < 0 || witness_none_since(f->epoch);
}

/* Slots for which it is asked together whether relatives see them; forks wait meanwhile. */
#define TIDY_BATCH	64

/**
 * struct unused - a slot that nobody shows any more
 * @slot: its name
 * @nr: pages
 */
struct unused {
	uint32_t slot;
	unsigned int nr;
};

/* Of file @i, some or those of one part of the arena; how many. */
static unsigned int find_unused(unsigned int i, uint32_t *from, uint32_t end,
				struct unused *found)
{
	unsigned int n;

	for (n = 0; n < TIDY_BATCH && *from < end; n++) {
		found[n].slot = slots_unused(i, from, &found[n].nr);
		if (found[n].slot == SLOT_NONE)
			break;
	}
	return n;
}

static void give_back(const struct file *f, const struct unused *u)
{
	if (f->fd < 0 || !os_punch(f->fd, offset_of(u->slot), u->nr * PAGE_SIZE))
		slots_clear(u->slot);
}

/*
 * Find first, then ask: what becomes unused while others are given back may have been shown
 * when a relative was forked. Returns false if there are relatives.
 */
static bool give_some_back(unsigned int i, uint32_t *from, uint32_t end)
{
	struct unused found[TIDY_BATCH];
	unsigned int j, n = find_unused(i, from, end, found);

	if (n && !may_punch(&files[i]))
		return false;
	for (j = 0; j < n; j++)
		give_back(&files[i], &found[j]);
	return true;
}

/* One step; whether there may be more to do. */
static bool tidy_some(unsigned int i, uint32_t *from)
{
	uint32_t end = atomic_load_explicit(&region.arena_pages, memory_order_relaxed);
	bool more;

	mesher_lock();
	more = *from < end && slots_nr_unused(i) && give_some_back(i, from, end);
	mesher_unlock();
	return more;
}

static void drop_if_empty(unsigned int i)
{
	mesher_lock();
	if (i != current && !slots_nr_used(i) && !slots_nr_unused(i))
		drop_file(i);
	mesher_unlock();
}

/* In steps: forks wait. */
void store_tidy(void)
{
	for (unsigned int i = 1; i < SLOT_FILES; i++) {
		uint32_t from = 0;

		if (!files[i].epoch)
			continue;
		while (tidy_some(i, &from))
			;
		drop_if_empty(i);
	}
}

void store_close(void)
{
	for (unsigned int i = 1; i < SLOT_FILES; i++)
		if (files[i].epoch && files[i].fd >= 0) {
			os_close(files[i].fd);
			files[i].fd = -1;
		}
	witness_close();
	current = 0;
}
