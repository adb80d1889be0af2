/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Mesh groups: what isolation, joining and putting back do to spans, and that the
 * contents survive. The model backend merges the pages for real.
 */
#include "central.h"
#include "model.h"
#include "pageheap.h"
#include "region.h"
#include "unit.h"

#define CLS	CLASS_256
#define SLOTS	16
#define SIZE	256

static void *slot(const struct span *s, unsigned int i)
{
	return span_addr(s) + i * SIZE;
}

static void put(const struct span *s, unsigned int i)
{
	void *p = slot(s, i);

	central_return(CLS, &p, 1);
}

/* A fresh, full span, next to sparse ones; its slot i holds @mark + i. */
static struct span *full_span(unsigned int mark)
{
	struct mesh_cand others[64];
	unsigned int n = central_isolate(CLS, CENTRAL_MESH_LISTS, others, 64);
	void *p[SLOTS];
	struct span *s;

	CHECK_EQ(central_refill(CLS, p, SLOTS), SLOTS);
	central_putback(CLS, others, n);
	s = span_of(p[0]);
	CHECK_EQ(s->state, SPAN_FULL);
	for (unsigned int i = 0; i < SLOTS; i++)
		memset(slot(s, i), (int)(mark + i), SIZE);
	return s;
}

/* A span that keeps the slots of @mask only. */
static struct span *sparse_span(unsigned int mark, unsigned int mask)
{
	struct span *s = full_span(mark);

	for (unsigned int i = 0; i < SLOTS; i++)
		if (!(mask >> i & 1))
			put(s, i);
	return s;
}

static void check_slots(const struct span *s, unsigned int mark, unsigned int mask)
{
	for (unsigned int i = 0; i < SLOTS; i++)
		for (unsigned int j = 0; mask >> i & 1 && j < SIZE; j++)
			CHECK_EQ(((unsigned char *)slot(s, i))[j], mark + i);
}

static struct mesh_cand *cand_of(struct mesh_cand *c, unsigned int n, const struct span *s)
{
	for (unsigned int i = 0; i < n; i++)
		if (c[i].span == s)
			return &c[i];
	CHECK(!"the span is among the candidates");
	return NULL;
}

static void merge(struct mesh_cand *dst, struct mesh_cand *src)
{
	model_merge(span_addr(src->span), span_addr(dst->span), 1, SIZE, src->live);
	central_join(CLS, dst, src);
}

/* Isolate all, merge @src into @dst, put all back. */
static void mesh(struct span *dst, struct span *src)
{
	struct mesh_cand c[64];
	unsigned int n = central_isolate(CLS, CENTRAL_MESH_LISTS, c, 64);

	merge(cand_of(c, n, dst), cand_of(c, n, src));
	central_putback(CLS, c, n);
}

TEST(isolated_spans_are_not_refilled)
{
	struct span *a, *b;
	struct mesh_cand c[8];
	void *p[SLOTS];

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0003);
	CHECK_EQ(central_isolate(CLS, CENTRAL_MESH_LISTS, c, 8), 2);
	CHECK(c[0].span == b && c[1].span == a);
	CHECK_EQ(c[0].nr_live, 2);
	CHECK_EQ(c[1].live[0], 0x000f);
	CHECK_EQ(c[1].nr_members, 1);
	CHECK_EQ(a->state, SPAN_MESHING);
	CHECK_EQ(central_refill(CLS, p, SLOTS), SLOTS);
	for (unsigned int i = 0; i < SLOTS; i++)
		CHECK(span_of(p[i]) != a && span_of(p[i]) != b);
	central_putback(CLS, c, 2);
	CHECK_EQ(a->state, SPAN_PARTIAL);
	CHECK_EQ(central_refill(CLS, p, 1), 1);
	CHECK(span_of(p[0]) == a);
}

TEST(full_spans_are_not_isolated)
{
	struct mesh_cand c[8];
	struct span *a;

	unit_heap();
	full_span(1);
	a = sparse_span(1, 0x00ff);
	sparse_span(1, 0x7fff);
	CHECK_EQ(central_isolate(CLS, CENTRAL_MESH_LISTS, c, 8), 1);
	CHECK(c[0].span == a);
	central_putback(CLS, c, 1);
}

TEST(isolation_is_bounded_and_goes_round)
{
	struct mesh_cand c[2], d[2];

	unit_heap();
	for (int i = 0; i < 4; i++)
		sparse_span(1, 0x0003);
	CHECK_EQ(central_isolate(CLS, CENTRAL_MESH_LISTS, c, 2), 2);
	central_putback(CLS, c, 2);
	CHECK_EQ(central_isolate(CLS, CENTRAL_MESH_LISTS, d, 2), 2);
	for (int i = 0; i < 4; i++)
		CHECK(c[i % 2].span != d[i / 2].span);
	central_putback(CLS, d, 2);
}

TEST(frees_work_while_isolated)
{
	struct span *a, *b;
	struct mesh_cand c[8];

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0003);
	CHECK_EQ(central_isolate(CLS, CENTRAL_MESH_LISTS, c, 8), 2);
	put(a, 0);
	put(b, 0);
	put(b, 1);
	CHECK_EQ(a->nr_live, 3);
	CHECK_EQ(b->nr_live, 0);
	CHECK_EQ(b->state, SPAN_MESHING);
	CHECK_EQ(centrals[CLS].nr_spans, 2);
	central_putback(CLS, c, 2);
	CHECK_EQ(centrals[CLS].nr_spans, 1);
	check_slots(a, 1, 0x000e);
}

TEST(join_makes_one_group)
{
	struct span *a, *b;

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0030);
	mesh(a, b);
	CHECK_EQ(model_pages(), 1);
	CHECK(span_head(a) == a && span_head(b) == a);
	CHECK_EQ(a->nr_members, 2);
	CHECK_EQ(a->nr_live, 6);
	CHECK_EQ(a->state, SPAN_PARTIAL);
	CHECK_EQ(b->state, SPAN_MEMBER);
	CHECK_EQ(centrals[CLS].nr_groups, 1);
	CHECK_EQ(centrals[CLS].nr_spans, 2);
	check_slots(a, 1, 0x000f);
	check_slots(b, 101, 0x0030);
}

/* New slots come from the head, and only where no member has one. */
TEST(group_is_refilled_at_its_head)
{
	struct span *a, *b;
	void *p[SLOTS];

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0030);
	mesh(a, b);
	CHECK_EQ(central_refill(CLS, p, 10), 10);
	for (unsigned int i = 0; i < 10; i++) {
		CHECK(span_of(p[i]) == a);
		CHECK((char *)p[i] >= (char *)slot(a, 6));
		memset(p[i], 0xee, SIZE);
	}
	CHECK_EQ(a->state, SPAN_FULL);
	CHECK_EQ(centrals[CLS].nr_spans, 2);
	check_slots(a, 1, 0x000f);
	check_slots(b, 101, 0x0030);
	put(b, 4);
	CHECK_EQ(a->state, SPAN_PARTIAL);
	CHECK_EQ(central_refill(CLS, p, 1), 1);
	CHECK(p[0] == slot(a, 4));
}

/* Its pages may be used again at once, and are its own then. */
TEST(empty_member_is_detached)
{
	struct span *a, *b;
	char *b_addr;
	void *p[SLOTS];

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0030);
	b_addr = span_addr(b);
	mesh(a, b);
	put(b, 4);
	CHECK_EQ(a->nr_members, 2);
	put(b, 5);
	CHECK_EQ(a->nr_members, 1);
	CHECK_EQ(a->nr_live, 4);
	CHECK(a->group_next == span_id(a));
	CHECK_EQ(centrals[CLS].nr_spans, 1);
	CHECK_EQ(centrals[CLS].nr_groups, 1);
	CHECK_EQ(region.page_class[region_page(b_addr)], CLASS_NONE);
	memset(b_addr, 0xee, PAGE_SIZE);
	check_slots(a, 1, 0x000f);
	CHECK_EQ(central_refill(CLS, p, 12), 12);
	check_slots(a, 1, 0x000f);
}

TEST(empty_head_is_succeeded)
{
	struct span *a, *b, *c;
	char *a_addr;
	void *p;

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0030);
	c = sparse_span(51, 0x0040);
	mesh(a, b);
	mesh(a, c);
	CHECK_EQ(a->nr_members, 3);
	a_addr = span_addr(a);
	for (unsigned int i = 0; i < 4; i++)
		put(a, i);
	CHECK(span_head(b) == span_head(c));
	CHECK_EQ(span_head(b)->nr_members, 2);
	CHECK_EQ(span_head(b)->nr_live, 3);
	CHECK_EQ(span_head(b)->state, SPAN_PARTIAL);
	CHECK_EQ(centrals[CLS].nr_spans, 2);
	memset(a_addr, 0xee, PAGE_SIZE);
	check_slots(b, 101, 0x0030);
	check_slots(c, 51, 0x0040);
	CHECK_EQ(central_refill(CLS, &p, 1), 1);
	CHECK(span_of(p) == span_head(b));
}

TEST(full_group_that_loses_its_head)
{
	struct span *a, *b;
	void *p[SLOTS];

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0xff00);
	mesh(a, b);
	CHECK_EQ(central_refill(CLS, p, 4), 4);
	CHECK_EQ(a->state, SPAN_FULL);
	for (unsigned int i = 0; i < 8; i++)
		put(a, i);
	CHECK(span_head(b) == b);
	CHECK_EQ(b->state, SPAN_PARTIAL);
	CHECK_EQ(b->nr_live, 8);
	check_slots(b, 101, 0xff00);
}

TEST(last_member_goes_with_the_group)
{
	struct span *a, *b;

	unit_heap();
	a = sparse_span(1, 0x0001);
	b = sparse_span(101, 0x0002);
	mesh(a, b);
	put(a, 0);
	put(b, 1);
	CHECK_EQ(centrals[CLS].nr_spans, 0);
	CHECK_EQ(centrals[CLS].nr_groups, 0);
	CHECK_EQ(pageheap_in_use(&heap_arena), 0);
	pageheap_purge(&heap_arena, SIZE_MAX);
	CHECK_EQ(model_pages(), 0);
}

TEST(groups_join_groups)
{
	struct span *s[4];

	unit_heap();
	for (unsigned int i = 0; i < 4; i++)
		s[i] = sparse_span(1 + 50 * i, 0x3u << 2 * i);
	mesh(s[0], s[1]);
	mesh(s[2], s[3]);
	mesh(s[0], s[2]);
	CHECK_EQ(model_pages(), 1);
	CHECK_EQ(s[0]->nr_members, 4);
	CHECK_EQ(s[0]->nr_live, 8);
	for (unsigned int i = 0; i < 4; i++) {
		CHECK(span_head(s[i]) == s[0]);
		check_slots(s[i], 1 + 50 * i, 0x3u << 2 * i);
	}
}

/* Emptied while isolated: nothing may be purged before the mesher is done. */
TEST(members_emptied_while_isolated)
{
	struct span *a, *b, *c;
	struct mesh_cand cand[8];
	unsigned int n, purges;

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0030);
	c = sparse_span(51, 0x0040);
	mesh(a, b);
	n = central_isolate(CLS, CENTRAL_MESH_LISTS, cand, 8);
	CHECK_EQ(n, 2);
	purges = model_purges;
	for (unsigned int i = 0; i < 4; i++)
		put(a, i);
	put(c, 6);
	CHECK_EQ(model_purges, purges);
	CHECK_EQ(a->nr_members, 2);
	merge(cand_of(cand, n, a), cand_of(cand, n, c));
	CHECK_EQ(a->nr_members, 3);
	central_putback(CLS, cand, n);
	CHECK(span_head(b) == b);
	CHECK_EQ(b->nr_members, 1);
	CHECK_EQ(centrals[CLS].nr_spans, 1);
	CHECK_EQ(centrals[CLS].nr_groups, 1);
	check_slots(b, 101, 0x0030);
}

TEST(group_emptied_while_isolated)
{
	struct span *a, *b;
	struct mesh_cand cand[8];

	unit_heap();
	a = sparse_span(1, 0x0001);
	b = sparse_span(101, 0x0002);
	mesh(a, b);
	CHECK_EQ(central_isolate(CLS, CENTRAL_MESH_LISTS, cand, 8), 1);
	CHECK_EQ(cand[0].nr_members, 2);
	put(a, 0);
	put(b, 1);
	CHECK_EQ(centrals[CLS].nr_spans, 2);
	central_putback(CLS, cand, 1);
	CHECK_EQ(centrals[CLS].nr_spans, 0);
	CHECK_EQ(centrals[CLS].nr_groups, 0);
	CHECK_EQ(pageheap_in_use(&heap_arena), 0);
}

/* Pages that cannot be taken out of the group are never used again. */
TEST(purge_of_member_fails)
{
	struct span *a, *b;
	uint32_t page;

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0030);
	page = b->page;
	mesh(a, b);
	model_fail_purges = 1;
	put(b, 4);
	put(b, 5);
	CHECK_EQ(heap_arena.lost_pages, 1);
	for (int i = 0; i < 300; i++)
		CHECK(full_span(1)->page != page);
	check_slots(a, 1, 0x000f);
}

static struct span *victim;
static unsigned int victim_slot;

static void put_victim(void)
{
	put(victim, victim_slot);
}

/* The slot is in use in the group, but at another member's address. */
TEST(free_at_the_wrong_member_aborts)
{
	char line[100];
	struct span *a, *b;

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0030);
	mesh(a, b);
	victim = b;
	victim_slot = 0;
	snprintf(line, sizeof(line), "double free of %p, an object of 256 bytes",
		 slot(b, 0));
	unit_must_abort(put_victim, line);
	victim = a;
	victim_slot = 4;
	snprintf(line, sizeof(line), "double free of %p, an object of 256 bytes",
		 slot(a, 4));
	unit_must_abort(put_victim, line);
}

/* There is no mesher in a child: what was isolated is put back. */
TEST(child_puts_back)
{
	struct span *a, *b;
	struct mesh_cand c[8];

	unit_heap();
	a = sparse_span(1, 0x000f);
	b = sparse_span(101, 0x0001);
	CHECK_EQ(central_isolate(CLS, CENTRAL_MESH_LISTS, c, 8), 2);
	put(b, 0);
	central_fork_prepare();
	lock_fork_enter();
	central_fork_child();
	lock_fork_leave();
	CHECK_EQ(a->state, SPAN_PARTIAL);
	CHECK_EQ(centrals[CLS].nr_spans, 1);
	CHECK_EQ(pageheap_in_use(&heap_arena), 1);
}

/* Random allocation, freeing and meshing of one class against what it should be. */
#define OBJECTS	4000

static unsigned char *object[OBJECTS];
static unsigned int class_size;

static void check_object(unsigned int i)
{
	for (unsigned int j = 0; j < class_size; j++)
		CHECK_EQ(object[i][j], (unsigned char)(i * 7 + j));
}

static void toggle(unsigned int cls, unsigned int i)
{
	void *p;

	if (object[i]) {
		check_object(i);
		memset(object[i], 0xdd, class_size);
		p = object[i];
		central_return(cls, &p, 1);
		object[i] = NULL;
		return;
	}
	CHECK_EQ(central_refill(cls, &p, 1), 1);
	object[i] = p;
	for (unsigned int j = 0; j < class_size; j++)
		object[i][j] = (unsigned char)(i * 7 + j);
}

static bool collide(const struct mesh_cand *a, const struct mesh_cand *b)
{
	for (unsigned int i = 0; i < SPAN_WORDS; i++)
		if (a->live[i] & b->live[i])
			return true;
	return a->nr_members + b->nr_members > 40;
}

/* Merge what can be merged, with frees in between. */
static unsigned int mesh_all(unsigned int cls, uint64_t *rng)
{
	static struct mesh_cand c[256];
	unsigned int n = central_isolate(cls, CENTRAL_MESH_LISTS, c, 256), merged = 0;

	for (unsigned int i = 0; i < n; i++)
		for (unsigned int j = i + 1; j < n && c[i].span; j++) {
			unsigned int victim_object = unit_random(rng) % OBJECTS;

			if (!c[j].span || collide(&c[i], &c[j]))
				continue;
			model_merge(span_addr(c[j].span), span_addr(c[i].span),
				    sizeclasses[cls].pages, class_size, c[j].live);
			if (object[victim_object])
				toggle(cls, victim_object);
			central_join(cls, &c[i], &c[j]);
			merged++;
		}
	central_putback(cls, c, n);
	return merged;
}

static void random_life(unsigned int cls)
{
	struct central *c = &centrals[cls];
	unsigned int rare = sizeclasses[cls].slots / 4 + 2;
	unsigned int merged = 0;
	uint64_t rng = cls;

	unit_heap();
	class_size = sizeclasses[cls].size;
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 12000; i++) {
			unsigned int o = unit_random(&rng) % OBJECTS;

			/* crowded and sparse by turns */
			if (!object[o] && round % 2 && unit_random(&rng) % rare)
				continue;
			toggle(cls, o);
		}
		merged += mesh_all(cls, &rng);
		for (unsigned int i = 0; i < OBJECTS; i++)
			if (object[i])
				check_object(i);
	}
	CHECK(merged > 10);
	for (unsigned int i = 0; i < OBJECTS; i++)
		if (object[i])
			toggle(cls, i);
	CHECK_EQ(c->nr_live, 0);
	CHECK_EQ(c->nr_spans, 0);
	CHECK_EQ(c->nr_groups, 0);
	CHECK_EQ(pageheap_in_use(&heap_arena), 0);
	pageheap_purge(&heap_arena, SIZE_MAX);
	CHECK_EQ(heap_arena.clean.pages, heap_arena.nr_pages);
	CHECK_EQ(model_pages(), 0);
}

TEST(random_life_of_16) { random_life(CLASS_16); }
TEST(random_life_of_240) { random_life(CLASS_240); }
TEST(random_life_of_400) { random_life(CLASS_400); }
TEST(random_life_of_1024) { random_life(CLASS_1024); }

UNIT_MAIN(UNIT(isolated_spans_are_not_refilled), UNIT(full_spans_are_not_isolated),
	  UNIT(isolation_is_bounded_and_goes_round), UNIT(frees_work_while_isolated),
	  UNIT(join_makes_one_group), UNIT(group_is_refilled_at_its_head),
	  UNIT(empty_member_is_detached), UNIT(empty_head_is_succeeded),
	  UNIT(full_group_that_loses_its_head), UNIT(last_member_goes_with_the_group),
	  UNIT(groups_join_groups), UNIT(members_emptied_while_isolated),
	  UNIT(group_emptied_while_isolated), UNIT(purge_of_member_fails),
	  UNIT(free_at_the_wrong_member_aborts), UNIT(child_puts_back),
	  UNIT(random_life_of_16), UNIT(random_life_of_240), UNIT(random_life_of_400),
	  UNIT(random_life_of_1024))
