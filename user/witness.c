/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * An epoch is a file that is mapped shared and writable, but never touched. A fork
 * copies the mapping. A file can be sealed against writing only if nobody has such
 * a mapping: when ours is gone, the kernel's answer to that tells whether there are
 * others. The mapping of the next epoch is made before ours is removed, so nobody
 * slips through in between.
 *
 * (The kernel also tells of a page whether it is mapped by several processes, but not
 * reliably so while it is swapped out or migrated.)
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "os.h"
#include "witness.h"

/* Epochs with witnesses that are remembered; there are no more while all have some. */
#define MAX_HELD	16

struct epoch {
	unsigned long nr;
	int fd;
	void *map;
};

static struct epoch present;
static struct epoch held[MAX_HELD];
static unsigned int nr_held;

static int begin(struct epoch *e, unsigned long nr)
{
	int ret, fd = os_memfd("mesh-witness", true);

	if (fd < 0)
		return fd;
	ret = os_truncate(fd, PAGE_SIZE);
	e->map = ret ? NULL : os_map_file(PAGE_SIZE, fd);
	if (!e->map) {
		os_close(fd);
		return ret ? ret : -ENOMEM;
	}
	e->fd = fd;
	e->nr = nr;
	return 0;
}

int witness_open(void)
{
	nr_held = 0;	/* after a fork they are the parent's */
	return begin(&present, present.nr + 1);
}

/* Is nobody left who was forked in @e, which is over? */
static bool settled(const struct epoch *e)
{
	if (os_seal_writes(e->fd))
		return false;
	os_close(e->fd);
	return true;
}

/* Look at epochs that had witnesses; is one of them since @epoch? */
static bool any_held_since(unsigned long epoch)
{
	unsigned int i = 0;
	bool any = false;

	while (i < nr_held) {
		if (settled(&held[i])) {
			held[i] = held[--nr_held];
			continue;
		}
		any |= held[i].nr >= epoch;
		i++;
	}
	return any;
}

/* Go on to the next epoch. Returns 0, -EBUSY if the last one has witnesses, or -errno. */
static int advance(void)
{
	struct epoch next, last = present;
	int ret;

	if (nr_held == MAX_HELD)
		return -EMFILE;
	ret = begin(&next, last.nr + 1);
	if (ret)
		return ret;
	present = next;
	os_unmap(last.map, PAGE_SIZE);
	if (settled(&last))
		return 0;
	held[nr_held++] = last;
	return -EBUSY;
}

unsigned long witness_epoch(void)
{
	int ret;

	any_held_since(0);
	ret = advance();
	return !ret || ret == -EBUSY ? present.nr : 0;
}

bool witness_none_since(unsigned long epoch)
{
	return !any_held_since(epoch) && !advance();
}

void witness_close(void)
{
	while (nr_held)
		os_close(held[--nr_held].fd);
	if (present.map)
		os_close(present.fd);
}
