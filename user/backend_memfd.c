/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * backend_memfd.c: merging without the module.
 *
 * The arena is private anonymous memory, as if nothing were ever merged. A merge
 * copies what is live in two spans into one place of a file (slots.h, store.h) and
 * lets both addresses show it, privately. Each address only ever uses its own slots
 * of what it shows. So a write to one does not have to reach the other, and the page
 * that the kernel makes for the writer is that of a span which is not merged any
 * more. The file changes nowhere but here.
 *
 * Whoever touches a span meanwhile waits for a userfaultfd. An ordinary span is moved
 * away page by page; the kernel refuses that for pages that are pinned for I/O or in
 * another process, and for locked or protected ones. A group's addresses are
 * write-protected, and left alone if one of their pages was written to since. When
 * those have been the same for a while, they are dropped again: renewal.
 *
 * Nothing on the way from taking to letting go may touch the arena: no allocation,
 * no symbol that is still to be bound.
 *
 * Threads: purge() is anybody's, the rest the daemon's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <sys/mman.h>

#include "backend.h"
#include "mappings.h"
#include "message.h"
#include "os.h"
#include "pagemap.h"
#include "proc.h"
#include "region.h"
#include "slots.h"
#include "store.h"
#include "uffd.h"

/* Longest span of a small class. */
#define SPAN_MAX	((size_t)8 * PAGE_SIZE)

/* Between two looks at spans that were written to. */
#define RENEW_EVERY	(2 * 1000000000ULL)

/* No direct I/O is smaller. */
#define SECTOR		512u

/**
 * struct group - the spans that share one place, or one that does not
 * @members: their addresses
 * @nr: how many
 * @len: bytes in each
 * @slot: what they show, or SLOT_NONE
 * @image: what is in them, once they are taken
 */
struct group {
	const uintptr_t *members;
	unsigned int nr;
	size_t len;
	uint32_t slot;
	char *image;
};

/* Where spans are moved to, and what groups are copied to: two of each. */
static char *scratch;
static char images[2][SPAN_MAX];

static uint32_t page_of(uintptr_t addr)
{
	return (uint32_t)region_page((const void *)addr);
}

static void wake_all(void)
{
	uffd_wake(region.base, (size_t)AREA_PAGES << PAGE_SHIFT);
}

/*
 * Why somebody could not be let go, -errno: it takes a mapping more than there may be, or
 * the program has forbidden it. Then nobody is watched any more, see end_if_stuck().
 */
static int stuck;

static void stop_watching(uintptr_t addr, size_t len)
{
	int ret = uffd_uncover(addr, len);

	if (ret && !stuck)
		stuck = ret;
}

/* Closing the descriptor needs no mapping, and lets everybody go. */
static void end_if_stuck(void)
{
	if (!stuck)
		return;
	if (stuck == -ENOMEM)
		verbose("no meshing any more: the program has used up vm.max_map_count");
	else
		verbose("no meshing any more: a system call is refused: %s",
			strerrordesc_np(-stuck));
	uffd_close();
}

/* Ordinary spans */

/*
 * Put back what was moved, without the userfaultfd, which has become forbidden. Others see
 * the old mapping or the new one. If that is forbidden, too, the only way left is to let
 * everybody go first, who may see zeros.
 */
static void carry_back(uintptr_t addr, char *image, size_t len)
{
	if (!os_move_over((void *)addr, image, len))
		return;
	uffd_close();
	memcpy((void *)addr, image, len);
}

/*
 * Put back what was moved. The kernel may have to copy it, and the memory for that must
 * come from somewhere; any other error means that the program has removed the mapping.
 */
static void restore(uintptr_t addr, char *image, size_t len, size_t moved)
{
	size_t back;
	int ret = uffd_move(addr, (uintptr_t)image, moved, &back);

	if (ret)
		ret = uffd_copy(addr + back, image + back, moved - back);
	while (ret == -ENOMEM) {
		os_sleep_ns(1000000);
		ret = uffd_copy(addr + back, image + back, moved - back);
	}
	if (os_is_refusal(ret))
		carry_back(addr + back, image + back, moved - back);
	stop_watching(addr, len);
	wake_all();
}

static int move_away(struct group *g)
{
	uintptr_t addr = g->members[0];
	size_t moved;
	int ret = uffd_cover(addr, g->len, UFFDIO_REGISTER_MODE_MISSING);

	if (ret)
		return ret;
	ret = uffd_move((uintptr_t)g->image, addr, g->len, &moved);
	if (ret)
		restore(addr, g->image, g->len, moved);
	return ret;
}

/*
 * After a fork pages are not ours alone, even when the child is gone, until they are
 * written to. While it is there, they cost less than what a merge would leave.
 */
static int take_span(struct group *g)
{
	int ret = move_away(g);

	if (ret != -EBUSY || !pagemap_none_shared(g->members[0], g->len))
		return ret;
	if (os_madvise((void *)g->members[0], g->len, MADV_POPULATE_WRITE))
		return ret;
	return move_away(g);
}

/* Groups */

static void leave_members(const struct group *g, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		stop_watching(g->members[i], g->len);
	wake_all();
}

/* MADV_COLD does next to nothing, but not to memory that is locked. */
static int protect_member(const struct group *g, uintptr_t addr)
{
	int ret;

	if (slots_shown(page_of(addr)) != g->slot)
		return -EXDEV;
	ret = os_madvise((void *)addr, g->len, MADV_COLD);
	if (!ret)
		ret = os_madvise((void *)addr, g->len, MADV_POPULATE_READ);
	if (!ret)
		ret = uffd_cover(addr, g->len, UFFDIO_REGISTER_MODE_WP);
	if (ret)
		return ret;
	ret = uffd_protect(addr, g->len);
	if (!ret && !pagemap_all_file(addr, g->len))
		ret = -EAGAIN;
	if (ret)
		stop_watching(addr, g->len);
	return ret;
}

static int take_group(struct group *g)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < g->nr && !ret; i++)
		ret = protect_member(g, g->members[i]);
	if (ret) {
		leave_members(g, i - 1);
		return ret;
	}
	/* Any address will do: none of them has changed what the file has. */
	if (os_read_memory(g->image, g->members[0], g->len) == (long)g->len)
		return 0;
	leave_members(g, g->nr);
	return -EFAULT;
}

/* Either */

static bool is_span(const struct group *g)
{
	return g->slot == SLOT_NONE;
}

/* The head of a group may have been left behind by rescue_member(). */
static bool is_whole(const struct group *g)
{
	return !is_span(g) || g->nr == 1;
}

/* @which: 0 or 1, for the space to put it in. */
static int take(struct group *g, unsigned int which)
{
	g->image = is_span(g) ? scratch + which * SPAN_MAX : images[which];
	return is_span(g) ? take_span(g) : take_group(g);
}

static void give_back(const struct group *g)
{
	if (is_span(g))
		restore(g->members[0], g->image, g->len, g->len);
	else
		leave_members(g, g->nr);
}

/*
 * The kernel could not make a mapping, and may have removed what was there. If so, have
 * ordinary memory there instead, with what is in @image.
 */
static bool fill_hole(uintptr_t addr, const char *image, size_t len)
{
	if (os_map_at((void *)addr, len))
		return false;
	memcpy((void *)addr, image, len);
	return true;
}

static void rescue_span(const struct group *g)
{
	if (!fill_hole(g->members[0], g->image, g->len))
		restore(g->members[0], g->image, g->len, g->len);
}

/* What it has shown before is in g->image. */
static void rescue_member(const struct group *g, uintptr_t addr)
{
	if (fill_hole(addr, g->image, g->len))
		slots_hide(page_of(addr));
	else
		stop_watching(addr, g->len);
}

static int show_member(uintptr_t addr, size_t len, uint32_t slot)
{
	int ret = store_map(addr, len, slot);

	if (!ret)
		slots_show(page_of(addr), slot);
	return ret;
}

/*
 * Let every member show @slot. A member of a group for which that fails shows what it
 * did before, or has that for itself; its own slots are there, too, only merging it again is
 * out of question.
 */
static int show(const struct group *g, uint32_t slot)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < g->nr; i++) {
		ret = show_member(g->members[i], g->len, slot);
		if (ret && is_span(g))
			rescue_span(g);
		else if (ret)
			rescue_member(g, g->members[i]);
	}
	wake_all();
	return is_span(g) ? ret : 0;
}

static bool is_live(const uint64_t *live, size_t slot)
{
	return live[slot / 64] >> slot % 64 & 1;
}

/* Copy a stretch of an image to another image or, if that is NULL, to @slot. */
static int put(char *to, uint32_t slot, const char *image, size_t off, size_t len)
{
	if (!to)
		return store_write(slot, off, image + off, len);
	memcpy(to + off, image + off, len);
	return 0;
}

/* Copy what is live in @src to the image @to or, if that is NULL, to @slot. */
static int put_live(const uint64_t *live, size_t size, const struct group *src, char *to,
		    uint32_t slot)
{
	size_t n = src->len / size, i, j;
	int ret = 0;

	for (i = 0; i < n && !ret; i = j + 1) {
		for (j = i; j < n && is_live(live, j); j++)
			;
		if (j > i)
			ret = put(to, slot, src->image, i * size, (j - i) * size);
	}
	return ret;
}

/* A place for both: where one of them would be at home, if nobody else is. */
static uint32_t find_slot(const struct group *g, unsigned int pages)
{
	for (unsigned int i = 0; i < g->nr; i++) {
		uint32_t page = page_of(g->members[i]);

		if (!slots_prepare(page, pages) && store_claim(page, pages))
			return page;
	}
	return SLOT_NONE;
}

/* @dst is where it can be added to: only @src has to be taken. */
static int merge_into(struct merge_req *req, struct group *src, const struct group *dst)
{
	int ret = take(src, 1);

	if (ret)
		return ret;
	ret = put_live(req->live, req->slot_size, src, NULL, dst->slot);
	if (ret)
		give_back(src);
	else
		ret = show(src, dst->slot);
	return ret;
}

/* Write both images to a new place, and show it. */
static int merge_taken(struct merge_req *req, struct group *src, struct group *dst,
		       uint32_t slot)
{
	int ret;

	put_live(req->live, req->slot_size, src, dst->image, slot);
	ret = store_write(slot, 0, dst->image, dst->len);
	if (ret) {
		give_back(src);
		give_back(dst);
		return ret;
	}
	ret = show(dst, slot);
	if (!ret)
		return show(src, slot);
	give_back(src);
	return ret;
}

static int take_both(struct group *src, struct group *dst)
{
	int ret = take(dst, 0);

	if (ret)
		return ret;
	ret = take(src, 1);
	if (ret)
		give_back(dst);
	return ret;
}

static int merge_both(struct merge_req *req, struct group *src, struct group *dst)
{
	uint32_t slot = find_slot(dst, req->pages);
	int ret;

	if (slot == SLOT_NONE)
		slot = find_slot(src, req->pages);
	if (slot == SLOT_NONE)
		return -EAGAIN;
	ret = take_both(src, dst);
	if (ret) {
		slots_release(slot, true);
		return ret;
	}
	ret = merge_taken(req, src, dst, slot);
	slots_release(slot, false);
	return ret;
}

/* Fails where it is locked, as then everything may be. */
static int clear_scratch(void)
{
	return os_madvise(scratch, 2 * SPAN_MAX, MADV_DONTNEED);
}

static int merge_one(struct merge_req *req)
{
	size_t len = req->pages * PAGE_SIZE;
	struct group src = {
		.members = req->members,
		.nr = req->nr_members,
		.len = len,
		.slot = slots_shown(page_of(req->src)),
	};
	struct group dst = {
		.members = req->dst_members,
		.nr = req->nr_dst_members,
		.len = len,
		.slot = slots_shown(page_of(req->dst)),
	};
	int ret;

	if (len > SPAN_MAX)
		return -EINVAL;
	if (!is_whole(&src) || !is_whole(&dst))
		return -EXDEV;
	/* The kernel would move what is locked to what is locked. */
	ret = clear_scratch();
	if (ret)
		return ret;
	/* Members of groups have mappings of their own. */
	if (!mappings_take(MAPPINGS_OF_MERGE / 2 * (is_span(&src) + is_span(&dst))))
		return -EMLINK;
	ret = slots_prepare(page_of(req->src), req->pages);
	if (!ret)
		ret = slots_prepare(page_of(req->dst), req->pages);
	if (ret)
		return ret;
	if (!is_span(&dst) && store_is_current(dst.slot))
		ret = merge_into(req, &src, &dst);
	else
		ret = merge_both(req, &src, &dst);
	clear_scratch();
	return ret;
}

/* What is refused once will be refused again. */
static void check_refused(int ret)
{
	if (os_is_refusal(ret) && !stuck)
		stuck = ret;
}

static uint64_t memfd_merge(struct merge_req *reqs, unsigned int n)
{
	int ret = stuck ? -EMLINK : store_ready();
	uint64_t saved = 0;

	for (unsigned int i = 0; i < n; i++) {
		reqs[i].result = ret ? ret : merge_one(&reqs[i]);
		check_refused(reqs[i].result);
		if (stuck && !ret) {
			end_if_stuck();
			ret = -EMLINK;
		}
		if (!reqs[i].result)
			saved += reqs[i].pages * PAGE_SIZE;
	}
	return saved;
}

/* Renewal */

static uint32_t sum_of(const char *image, size_t len)
{
	uint64_t h = 1, word;

	for (size_t i = 0; i < len; i += sizeof(word)) {
		memcpy(&word, image + i, sizeof(word));
		h = (h ^ word) * 0x9E3779B97F4A7C15ULL;
		h ^= h >> 32;
	}
	return (uint32_t)h | 1;
}

/* Has the span been the same since the last look? What is there is in g->image. */
static bool is_stable(const struct group *g)
{
	uint32_t sum;

	if (os_read_memory(g->image, g->members[0], g->len) != (long)g->len)
		return false;
	sum = sum_of(g->image, g->len);
	return slots_swap_sum(page_of(g->members[0]), sum) == sum;
}

/*
 * Write what is the span's own back to the file, where nobody else looks at it, and
 * drop the pages that hid it. The contents are looked at again when nobody can write.
 */
static int renew_protected(const struct renew_req *req, const struct group *g)
{
	int ret = uffd_protect(req->addr, g->len);

	if (ret)
		return ret;
	if (!is_stable(g))
		return -EAGAIN;
	ret = put_live(req->live, req->slot_size, g, NULL, g->slot);
	return ret ? ret : os_madvise((void *)req->addr, g->len, MADV_DONTNEED);
}

static bool pins_are_counted;

static long pinned_kib(void)
{
	return proc_number("/proc/self/status", "\nVmPin:");
}

/*
 * Not every kernel counts what a privileged process has registered with io_uring. Where
 * io_uring is refused, the program has no use for it either.
 */
static int try_pinning(void)
{
	struct iovec iov = { .iov_base = images, .iov_len = sizeof(images) };
	struct io_uring ring;
	int ret = io_uring_queue_init(2, &ring, 0);

	pins_are_counted = ret == -ENOSYS || ret == -EPERM;
	if (ret)
		return 0;
	if (!io_uring_register_buffers(&ring, &iov, 1))
		pins_are_counted = pinned_kib() > 0;
	io_uring_queue_exit(&ring);
	return 0;
}

/*
 * Pages in a view of a file do not tell whether they are pinned. Long pins are counted
 * by the kernel, and short ones are of direct I/O, which takes a sector at least.
 */
static bool memfd_begin_pass(void)
{
	static uint64_t next;
	uint64_t now = os_now_ns();

	mappings_refresh();
	if (now < next || stuck || !pins_are_counted || pinned_kib() != 0)
		return false;
	next = now + RENEW_EVERY;
	return true;
}

static bool memfd_renew(const struct renew_req *req)
{
	struct group g = {
		.members = &req->addr,
		.nr = 1,
		.len = req->pages * PAGE_SIZE,
		.slot = slots_shown(page_of(req->addr)),
		.image = images[1],
	};
	int ret;

	if (is_span(&g) || req->slot_size >= SECTOR || stuck ||
	    pagemap_all_file(req->addr, g.len) || !is_stable(&g) ||
	    store_ready() || !store_is_current(g.slot) ||
	    uffd_cover(req->addr, g.len, UFFDIO_REGISTER_MODE_WP))
		return false;
	ret = renew_protected(req, &g);
	leave_members(&g, 1);
	end_if_stuck();
	return !ret;
}

static bool memfd_ended(void)
{
	return stuck;
}

/* A view that is gone makes way for zeros; views of others stay as they are. */
static int memfd_purge(void *addr, size_t len)
{
	uint32_t page, first = (uint32_t)region_page(addr);
	uint32_t end = first + (uint32_t)(len >> PAGE_SHIFT);
	int ret;

	for (page = first; page < end && slots_shown(page) == SLOT_NONE; page++)
		;
	if (page == end)
		return os_madvise(addr, len, MADV_DONTNEED);
	ret = os_map_over(addr, len);
	for (; page < end && !ret; page++)
		slots_hide(page);
	return ret;
}

static bool memfd_merged(const void *addr)
{
	return slots_shown((uint32_t)region_page(addr)) != SLOT_NONE;
}

/* For moving to it needs to be covered, but nobody waits for it. */
static int open_scratch(void)
{
	if (!scratch) {
		scratch = os_map(2 * SPAN_MAX);
		if (!scratch)
			return -ENOMEM;
		os_madvise(scratch, 2 * SPAN_MAX, MADV_NOHUGEPAGE);
	}
	return uffd_cover((uintptr_t)scratch, 2 * SPAN_MAX, UFFDIO_REGISTER_MODE_WP);
}

static int open_uffd(void)
{
	stuck = 0;
	return uffd_open(UFFD_FEATURE_MOVE | UFFD_FEATURE_WP_HUGETLBFS_SHMEM, true);
}

/* What merging needs, in this order. */
static const struct {
	const char *what;
	int (*open)(void);
	void (*close)(void);
} needs[] = {
	{ "userfaultfd that serves system calls and moves pages", open_uffd, uffd_close },
	{ "memory to move pages to", open_scratch, NULL },
	{ "/proc/self/pagemap", pagemap_open, pagemap_close },
	{ "number of mappings", mappings_open, NULL },
	{ "memfd", store_open, store_close },
	{ "trial of pins", try_pinning, NULL },
};

static void close_needs(unsigned int n)
{
	while (n--)
		if (needs[n].close)
			needs[n].close();
}

static void memfd_mesh_close(void)
{
	close_needs(ARRAY_SIZE(needs));
}

static int memfd_mesh_open(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(needs); i++) {
		int ret = needs[i].open();

		if (ret) {
			verbose("no meshing: no %s: %s", needs[i].what, strerrordesc_np(-ret));
			close_needs(i);
			return ret;
		}
	}
	return 0;
}

const struct backend_ops backend_memfd = {
	.name = "memfd",
	.arena_map = os_map_at,
	.arena_grow = backend_grow_anon,
	.purge = memfd_purge,
	.purge_advice = MADV_DONTNEED,
	.merged = memfd_merged,
	.mesh_open = memfd_mesh_open,
	.frontier = mappings_frontier,
	.slice = 2,
	.merge = memfd_merge,
	.begin_pass = memfd_begin_pass,
	.renew = memfd_renew,
	.ended = memfd_ended,
	.tidy = store_tidy,
	.mesh_close = memfd_mesh_close,
};
