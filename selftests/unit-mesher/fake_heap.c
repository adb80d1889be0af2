/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "dump.h"
#include "fake_heap.h"
#include "lock.h"
#include "region.h"

unsigned int fake_refusals;
unsigned int fake_merge_us;
atomic_uint fake_batches;
atomic_uint fake_opens;

struct span *span_table;
struct region region;
struct central centrals[NR_CLASSES];
struct pageheap heap_arena = { .lock = LOCK_INITIALIZER(LOCK_HEAP) };
struct pageheap heap_anon = { .lock = LOCK_INITIALIZER(LOCK_HEAP) };

/* Class and heap locks in one, whose rank is checked; span 0 is nil. */
static struct lock lock = LOCK_INITIALIZER(LOCK_CLASS);
static unsigned int nr_spans;
static size_t meshed_pages[NR_CLASSES];
static unsigned int next_span[NR_CLASSES];

/* Dirty runs: one page each, in a row of their own for each heap. */
#define RUNS	1000
static struct span runs[2][RUNS];
static unsigned int nr_runs[2];

void span_group_live(const struct span *head, uint64_t live[SPAN_WORDS])
{
	const struct span *s = head;
	unsigned int i;

	memset(live, 0, SPAN_WORDS * sizeof(*live));
	do {
		for (i = 0; i < SPAN_WORDS; i++)
			live[i] |= s->own[i];
		s = span_group_next(s);
	} while (s != head);
}

void fake_reset(void)
{
	size_t pages = 8 * FAKE_SPANS + 2 * RUNS;

	span_table = calloc(FAKE_SPANS, sizeof(*span_table));
	region.base = (uintptr_t)mmap(NULL, pages << PAGE_SHIFT,
				      PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				      -1, 0);
	CHECK(span_table && region.base != (uintptr_t)MAP_FAILED);
	nr_spans = 1;
}

void fake_add_span(unsigned int cls, unsigned int live)
{
	struct span *s = span_at(nr_spans);

	CHECK(nr_spans < FAKE_SPANS);
	*s = (struct span) {
		.page = 8 * nr_spans,
		.group_next = nr_spans,
		.head = nr_spans,
		.nr_members = 1,
		.cls = cls,
		.state = SPAN_PARTIAL,
	};
	while (s->nr_own < live) {
		unsigned int slot = test_random() % sizeclasses[cls].slots;

		s->nr_own += !(s->own[slot / 64] >> slot % 64 & 1);
		s->own[slot / 64] |= 1ULL << slot % 64;
	}
	s->nr_live = s->nr_own;
	nr_spans++;
	centrals[cls].nr_groups++;
}

/* Round robin over all spans of the class, as the real one does by lists. */
unsigned int central_isolate(unsigned int cls, unsigned int lists, struct mesh_cand *out,
			     unsigned int max)
{
	unsigned int i, n = 0;

	(void)lists;
	lock_acquire(&lock);
	for (i = 1; i < nr_spans && n < max; i++) {
		struct span *s = span_at(1 + next_span[cls]++ % (nr_spans - 1));

		if (s->cls != cls || s->state != SPAN_PARTIAL)
			continue;
		s->state = SPAN_MESHING;
		out[n].span = s;
		out[n].nr_live = s->nr_live;
		out[n].nr_members = s->nr_members;
		span_group_live(s, out[n++].live);
	}
	lock_release(&lock);
	return n;
}

void central_join(unsigned int cls, struct mesh_cand *dst,
		  struct mesh_cand *src)
{
	struct span *d = dst->span, *s = src->span, *m;
	uint32_t next = d->group_next;

	lock_acquire(&lock);
	CHECK(d->state == SPAN_MESHING && s->state == SPAN_MESHING);
	for (m = span_group_next(s); m != s; m = span_group_next(m))
		m->head = d->head;
	s->head = d->head;
	d->group_next = s->group_next;
	s->group_next = next;
	s->state = SPAN_MEMBER;
	d->nr_live += s->nr_live;
	d->nr_members += s->nr_members;
	dst->nr_live = d->nr_live;
	dst->nr_members = d->nr_members;
	span_group_live(d, dst->live);
	src->span = NULL;
	centrals[cls].nr_groups--;
	meshed_pages[cls] += sizeclasses[cls].pages;
	lock_release(&lock);
}

size_t central_meshed_pages(unsigned int cls)
{
	size_t n;

	lock_acquire(&lock);
	n = meshed_pages[cls];
	lock_release(&lock);
	return n;
}

void central_putback(unsigned int cls, struct mesh_cand *c, unsigned int nr)
{
	unsigned int i;

	lock_acquire(&lock);
	for (i = 0; i < nr; i++) {
		if (!c[i].span)
			continue;
		CHECK(c[i].span->cls == cls);
		CHECK(c[i].span->state == SPAN_MESHING);
		c[i].span->state = SPAN_PARTIAL;
	}
	lock_release(&lock);
}

static unsigned int check_group(const struct span *head)
{
	uint64_t live[SPAN_WORDS] = { 0 };
	const struct span *s = head;
	unsigned int i, members = 0, nr_live = 0;

	CHECK(head->state == SPAN_PARTIAL);
	do {
		for (i = 0; i < SPAN_WORDS; i++) {
			CHECK(!(live[i] & s->own[i]));
			live[i] |= s->own[i];
		}
		nr_live += s->nr_own;
		CHECK(span_head(s) == head);
		CHECK(s == head || s->state == SPAN_MEMBER);
		members++;
		s = span_group_next(s);
	} while (s != head);
	CHECK(nr_live == head->nr_live);
	CHECK(members == head->nr_members);
	CHECK(members <= MERGE_MAX_MEMBERS);
	return members;
}

unsigned int fake_check(unsigned int cls)
{
	unsigned int i, groups = 0, members = 0, spans = 0;

	for (i = 1; i < nr_spans; i++) {
		struct span *s = span_at(i);

		if (s->cls != cls)
			continue;
		spans++;
		if (s->state == SPAN_MEMBER)
			continue;
		members += check_group(s);
		groups++;
	}
	CHECK(members == spans);
	CHECK(groups == centrals[cls].nr_groups);
	return groups;
}

static struct span *span_of_addr(uintptr_t addr)
{
	uintptr_t page = (addr - region.base) >> PAGE_SHIFT;

	CHECK(addr >= region.base && addr % PAGE_SIZE == 0 && page % 8 == 0);
	CHECK(page / 8 && page / 8 < nr_spans);
	return span_at(page / 8);
}

static void check_members(const struct merge_req *r, const struct span *src)
{
	unsigned int i, j;

	CHECK(r->nr_members == src->nr_members);
	for (i = 0; i < r->nr_members; i++) {
		CHECK(span_head(span_of_addr(r->members[i])) == src);
		for (j = 0; j < i; j++)
			CHECK(r->members[i] != r->members[j]);
	}
}

static void check_request(const struct merge_req *r)
{
	struct span *src = span_of_addr(r->src), *dst = span_of_addr(r->dst);
	uint64_t a[SPAN_WORDS], b[SPAN_WORDS];
	unsigned int i;

	CHECK(src != dst && src->cls == dst->cls);
	CHECK(src->state == SPAN_MESHING && dst->state == SPAN_MESHING);
	CHECK(src->nr_live <= dst->nr_live);
	CHECK(r->pages == sizeclasses[src->cls].pages);
	CHECK(r->slot_size == sizeclasses[src->cls].size);
	span_group_live(src, a);
	span_group_live(dst, b);
	for (i = 0; i < SPAN_WORDS; i++) {
		CHECK(r->live[i] == a[i]);
		CHECK(!(a[i] & b[i]));
	}
	check_members(r, src);
}

static uint64_t fake_merge(struct merge_req *reqs, unsigned int n)
{
	static const int errors[] = { -EAGAIN, -EBUSY, -ENOENT, -ENOMEM };
	uint64_t saved = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		check_request(&reqs[i]);
		reqs[i].result = 0;
		if (test_random() % 100 < fake_refusals)
			reqs[i].result = errors[test_random() % 4];
		else
			saved += reqs[i].pages * PAGE_SIZE;
	}
	if (fake_merge_us)
		usleep(fake_merge_us);
	atomic_fetch_add(&fake_batches, 1);
	return saved;
}

static int fake_open(void)
{
	atomic_fetch_add(&fake_opens, 1);
	return 0;
}

static void fake_close(void)
{
	atomic_fetch_sub(&fake_opens, 1);
}

static const struct backend_ops fake_backend = {
	.name = "fake",
	.purge_advice = MADV_DONTNEED,
	.mesh_open = fake_open,
	.slice = 32,
	.merge = fake_merge,
	.mesh_close = fake_close,
};

const struct backend_ops *backend_current(void)
{
	return &fake_backend;
}

bool fake_add_dirty(struct pageheap *ph)
{
	unsigned int h = ph == &heap_anon;
	struct span *s;

	lock_acquire(&lock);
	s = nr_runs[h] < RUNS ? &runs[h][nr_runs[h]] : NULL;
	if (s) {
		s->page = 8 * FAKE_SPANS + h * RUNS + nr_runs[h]++;
		s->nr_pages = 1;
		s->state = SPAN_DIRTY;
		*span_addr(s) = 0x5a;
		ph->dirty.pages++;
	}
	lock_release(&lock);
	return s;
}

struct span *pageheap_purge_begin(struct pageheap *ph, size_t max_pages)
{
	unsigned int i, h = ph == &heap_anon;
	struct span *s = NULL;

	CHECK(max_pages > 0);
	lock_acquire(&lock);
	for (i = 0; i < nr_runs[h] && !s; i++)
		if (runs[h][i].state == SPAN_DIRTY)
			s = &runs[h][i];
	if (s) {
		s->state = SPAN_PURGING;
		ph->dirty.pages--;
	}
	lock_release(&lock);
	return s;
}

void pageheap_purge_end(struct pageheap *ph, struct span *s, bool purged)
{
	lock_acquire(&lock);
	CHECK(s->state == SPAN_PURGING);
	CHECK(!purged || *span_addr(s) == 0);
	s->state = purged ? SPAN_CLEAN : SPAN_DIRTY;
	if (!purged)
		ph->dirty.pages++;
	lock_release(&lock);
}

size_t pageheap_purge_parts(struct pageheap *ph, struct span *s)
{
	pageheap_purge_end(ph, s, false);
	return 0;
}

/* Nothing here waits for a purge. */
bool pageheap_purge_lost(struct pageheap *ph, unsigned int max_runs)
{
	(void)ph;
	(void)max_runs;
	lock_acquire(&lock);
	lock_release(&lock);
	return false;
}

void pageheap_purge_later(struct pageheap *ph, bool later)
{
	(void)later;
	pageheap_purge_lost(ph, 0);
}

size_t pageheap_dirty(struct pageheap *ph)
{
	size_t n;

	lock_acquire(&lock);
	n = ph->dirty.pages;
	lock_release(&lock);
	return n;
}

size_t pageheap_in_use(struct pageheap *ph)
{
	size_t n;

	(void)ph;
	lock_acquire(&lock);
	n = nr_spans;
	lock_release(&lock);
	return n;
}

/* Nobody asks for statistics here. */
void dump_serve(void)
{
}
