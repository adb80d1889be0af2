/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lock.h"
#include "mesher.h"
#include "region.h"
#include "small_heap.h"

#define MAX_SLOTS	(MERGE_LIVE_WORDS * 64)

struct small_heap heap;
struct region region;

static struct lock mesh_lock = LOCK_INITIALIZER(LOCK_MESH);

/* Nobody waits to fork here. */
void mesher_lock(void)
{
	lock_acquire(&mesh_lock);
}

void mesher_unlock(void)
{
	lock_release(&mesh_lock);
}

/* A group is a circle of next[]; written[] is 0 for slots that are free. */
static unsigned int next[HEAP_SPANS];
static unsigned char written[HEAP_SPANS][MAX_SLOTS];

static unsigned char pattern(unsigned int span, unsigned int slot)
{
	return (unsigned char)(span * 37 + slot * 11 + written[span][slot]);
}

unsigned int slots_per_span(void)
{
	return heap.pages * PAGE_SIZE / SLOT_SIZE;
}

char *span_at_index(unsigned int span)
{
	return (char *)region.base + (size_t)span * heap.pages * PAGE_SIZE;
}

char *slot_at(unsigned int span, unsigned int slot)
{
	return span_at_index(span) + (size_t)slot * SLOT_SIZE;
}

void heap_open(const struct backend_ops *ops, unsigned int nr, unsigned int pages)
{
	size_t len = (size_t)nr * pages * PAGE_SIZE;
	unsigned int i;

	CHECK(nr <= HEAP_SPANS && len / nr / SLOT_SIZE <= MAX_SLOTS);
	heap = (struct small_heap){ .ops = ops, .nr = nr, .pages = pages };
	region.base = 0x400000000000;
	region.arena_pages = nr * pages;
	CHECK(!ops->arena_map((void *)region.base, len));
	memset((void *)region.base, 0xee, len);
	for (i = 0; i < nr; i++)
		next[i] = i;
	if (ops->mesh_open()) {
		if (geteuid())
			SKIP("%s does not work for this user", ops->name);
		printf("%s: mesh_open() failed\n", ops->name);
		exit(1);
	}
}

bool heap_is_live(unsigned int span, unsigned int slot)
{
	return written[span][slot];
}

void heap_write(unsigned int span, unsigned int slot)
{
	CHECK(written[span][slot]);
	/* Others may look: it is never 0 in between. */
	written[span][slot] = written[span][slot] % 255 + 1;
	memset(slot_at(span, slot), pattern(span, slot), SLOT_SIZE);
}

void heap_mark(unsigned int span, unsigned int slot)
{
	CHECK(!written[span][slot]);
	written[span][slot] = 1;
}

void heap_fill(unsigned int span, unsigned int slot)
{
	heap_mark(span, slot);
	heap_write(span, slot);
}

void heap_free(unsigned int span, unsigned int slot)
{
	CHECK(written[span][slot]);
	written[span][slot] = 0;
}

void heap_fill_diagonal(void)
{
	unsigned int i;

	for (i = 0; i < heap.nr; i++)
		heap_fill(i, i % slots_per_span());
}

static void verify_slot(unsigned int span, unsigned int slot)
{
	const char *p = slot_at(span, slot);
	unsigned int i;

	for (i = 0; i < SLOT_SIZE; i++)
		if ((unsigned char)p[i] != pattern(span, slot)) {
			printf("span %u slot %u byte %u: %02x, not %02x\n", span, slot, i,
			       (unsigned char)p[i], pattern(span, slot));
			fflush(stdout);
			_exit(1);
		}
}

void heap_verify(void)
{
	unsigned int span, slot;

	for (span = 0; span < heap.nr; span++)
		for (slot = 0; slot < slots_per_span(); slot++)
			if (written[span][slot])
				verify_slot(span, slot);
}

unsigned int heap_group_size(unsigned int span)
{
	unsigned int i, n = 1;

	for (i = next[span]; i != span; i = next[i])
		n++;
	return n;
}

static unsigned int members(unsigned int span, uintptr_t *out)
{
	unsigned int i = span, n = 0;

	do {
		CHECK(n < MERGE_MAX_MEMBERS);
		out[n++] = (uintptr_t)span_at_index(i);
		i = next[i];
	} while (i != span);
	return n;
}

static void group_live(unsigned int span, uint64_t live[MERGE_LIVE_WORDS])
{
	unsigned int i = span, slot;

	memset(live, 0, MERGE_LIVE_WORDS * sizeof(*live));
	do {
		for (slot = 0; slot < slots_per_span(); slot++)
			if (written[i][slot])
				live[slot / 64] |= 1ULL << slot % 64;
		i = next[i];
	} while (i != span);
}

static bool same_group(unsigned int a, unsigned int b)
{
	unsigned int i;

	for (i = next[a]; i != a; i = next[i])
		if (i == b)
			return true;
	return a == b;
}

bool heap_may_merge(unsigned int src, unsigned int dst)
{
	uint64_t a[MERGE_LIVE_WORDS], b[MERGE_LIVE_WORDS];
	unsigned int i;

	if (same_group(src, dst) ||
	    heap_group_size(src) + heap_group_size(dst) > MERGE_MAX_MEMBERS)
		return false;
	group_live(src, a);
	group_live(dst, b);
	for (i = 0; i < MERGE_LIVE_WORDS; i++)
		if (a[i] & b[i])
			return false;
	return true;
}

int heap_merge(unsigned int src, unsigned int dst)
{
	uintptr_t of_src[MERGE_MAX_MEMBERS], of_dst[MERGE_MAX_MEMBERS];
	struct merge_req req = {
		.src = (uintptr_t)span_at_index(src),
		.dst = (uintptr_t)span_at_index(dst),
		.pages = heap.pages,
		.slot_size = SLOT_SIZE,
		.members = of_src,
		.nr_members = members(src, of_src),
		.dst_members = of_dst,
		.nr_dst_members = members(dst, of_dst),
		.result = 1,
	};
	unsigned int after = next[dst];
	uint64_t saved;

	CHECK(heap_may_merge(src, dst));
	group_live(src, req.live);
	saved = heap.ops->merge(&req, 1);
	CHECK(req.result <= 0);
	CHECK(saved == (req.result ? 0 : heap.pages * PAGE_SIZE));
	if (!req.result) {
		next[dst] = next[src];
		next[src] = after;
	}
	return req.result;
}

bool heap_renew(unsigned int span)
{
	struct renew_req req = {
		.addr = (uintptr_t)span_at_index(span),
		.pages = heap.pages,
		.slot_size = SLOT_SIZE,
	};
	unsigned int slot;

	for (slot = 0; slot < slots_per_span(); slot++)
		if (written[span][slot])
			req.live[slot / 64] |= 1ULL << slot % 64;
	return heap.ops->renew(&req);
}

int heap_kill(unsigned int span)
{
	unsigned int i = span;

	while (next[i] != span)
		i = next[i];
	next[i] = next[span];
	next[span] = span;
	memset(written[span], 0, sizeof(written[span]));
	return heap.ops->purge(span_at_index(span), heap.pages * PAGE_SIZE);
}

uint64_t frame_of(unsigned int span)
{
	uintptr_t addr = (uintptr_t)span_at_index(span);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	(void)*(volatile char *)addr;
	CHECK(fd >= 0);
	CHECK(pread(fd, &entry, 8, (off_t)(addr / PAGE_SIZE * 8)) == 8);
	close(fd);
	CHECK(entry >> 63);
	entry &= (1ULL << 55) - 1;
	if (!entry)
		SKIP("frame numbers are for root only");
	return entry;
}
