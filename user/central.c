/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Central lists of spans by class and fullness: refill, return, and what the
 * mesher does to mesh groups. Everything happens under the lock of the class;
 * pages are taken from and given to the page heap with no lock held.
 *
 * Spans that lose their last slot leave their class under its lock (retire) and
 * are collected in a struct reaper until the lock is released.
 */
#include <stdatomic.h>
#include <string.h>

#include "central.h"
#include "daemon.h"
#include "message.h"
#include "os.h"
#include "pageheap.h"
#include "park.h"
#include "region.h"
#include "slotbits.h"

/* Most spans that are asked for at once. */
#define FETCH	128

/* Of the slots that come back at a time, so many tell whether they lie together. */
#define SAMPLES	4

struct central centrals[NR_CLASSES];

/* Of all classes; for statistics only, hence relaxed. */
static atomic_size_t spans_now, spans_made, spans_hwm;

/* Runs on their way to the page heap; aliased ones show pages of a mesh group. */
struct reaper {
	struct span_list plain;
	struct span_list aliased;
};

static struct pageheap *heap_of(const struct span *s)
{
	return s->page < ANON_FIRST_PAGE ? &heap_arena : &heap_anon;
}

/*
 * The arena cannot grow past a foreign mapping. Small spans elsewhere are as good,
 * but the module refuses to merge them.
 */
static struct span *alloc_span(unsigned int cls)
{
	unsigned int pages = sizeclasses[cls].pages;
	struct span *s = NULL;

	if (sizeclass_is_small(cls))
		s = pageheap_alloc(&heap_arena, pages, 1, NULL);
	return s ? s : pageheap_alloc(&heap_anon, pages, 1, NULL);
}

/**
 * central_init() - prepare the lists, once, before the first refill
 */
void central_init(void)
{
	uint64_t seed = os_random() | 1;

	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		lock_init(&centrals[cls].lock, LOCK_CLASS);
		centrals[cls].cls = cls;
		centrals[cls].list_magic =
			(CENTRAL_LISTS << 24) / sizeclasses[cls].slots + 1;
		transfer_init(&centrals[cls].transfer, &sizeclasses[cls]);
		centrals[cls].rng = seed * (2 * cls + 1);
	}
}

/* xorshift64*: cheap, and good enough to spread slots. */
static uint32_t random_below(struct central *c, uint32_t n)
{
	c->rng ^= c->rng >> 12;
	c->rng ^= c->rng << 25;
	c->rng ^= c->rng >> 27;
	return (uint32_t)((c->rng * 0x2545F4914F6CDD1DULL >> 32) * n >> 32);
}

/* Spans on lists */

static unsigned int slots_of(const struct central *c)
{
	return sizeclasses[c->cls].slots;
}

/* nr_live * CENTRAL_LISTS / slots without the division: every free comes here. */
static struct span_list *partial_list(struct central *c, unsigned int nr_live)
{
	return &c->partial[nr_live * c->list_magic >> 24];
}

/* The page heap looks at the spans next to a free run, and has no lock of theirs. */
static void set_state(struct span *s, uint8_t state)
{
	__atomic_store_n(&s->state, state, __ATOMIC_RELAXED);
}

/* Put a group that is on no list where its fullness belongs. */
static void list_group(struct central *c, struct span *head)
{
	if (head->nr_live == slots_of(c)) {
		set_state(head, SPAN_FULL);
		return;
	}
	set_state(head, SPAN_PARTIAL);
	span_list_add_tail(partial_list(c, head->nr_live), head);
}

/* Take a group off the list it is on; @nr_live is what it was listed with. */
static void unlist_group(struct central *c, struct span *head, unsigned int nr_live)
{
	if (head->state == SPAN_PARTIAL)
		span_list_del(partial_list(c, nr_live), head);
	else if (head->state == SPAN_MESHING)
		span_list_del(&c->meshing, head);
}

/* @head's fullness has changed from @was. */
static inline void relist_group(struct central *c, struct span *head, unsigned int was)
{
	if (head->state == SPAN_PARTIAL && head->nr_live != slots_of(c) &&
	    partial_list(c, was) == partial_list(c, head->nr_live))
		return;
	unlist_group(c, head, was);
	list_group(c, head);
}

/* Mesh groups */

static struct span *group_before(struct span *s)
{
	struct span *p = s;

	while (span_group_next(p) != s)
		p = span_group_next(p);
	return p;
}

static void set_head(struct span *first, struct span *head)
{
	struct span *s = first;

	do {
		s->head = span_id(head);
		s = span_group_next(s);
	} while (s != first);
}

/* @next takes over from @head, which is on no list and leaves the group. */
static void promote(struct span *head, struct span *next)
{
	next->nr_live = head->nr_live;
	next->nr_members = head->nr_members;
	set_state(next, head->state);
	next->keep = head->keep;
	set_head(next, next);
}

/*
 * Take @s out of its group, which has other members. Returns the group's head;
 * when @s was the head, its successor, then on no list.
 */
static struct span *leave_group(struct span *s)
{
	struct span *head = span_head(s);
	struct span *next = span_group_next(s);

	group_before(s)->group_next = s->group_next;
	s->group_next = span_id(s);
	s->head = span_id(s);
	if (s == head) {
		promote(s, next);
		head = next;
	}
	head->nr_members--;
	return head;
}

/* Spans that come and go */

static void set_page_class(const struct span *s, unsigned int cls)
{
	unsigned int pages = sizeclasses[s->cls].pages;

	/* mostly one: cheaper than memset() */
	for (unsigned int i = 0; i < pages; i++)
		region.page_class[s->page + i] = (uint8_t)cls;
}

/* On no list yet, as if it were full. */
static void init_span(struct central *c, struct span *s)
{
	const struct sizeclass *sc = &sizeclasses[c->cls];

	memset(s->own, 0, sizeof(s->own));
	s->cls = (uint8_t)c->cls;
	set_state(s, SPAN_FULL);
	s->group_next = span_id(s);
	s->head = span_id(s);
	s->nr_own = 0;
	s->nr_live = 0;
	s->nr_members = 1;
	s->keep = false;
	/* The page heap has entered the first and the last, and may be looking at them. */
	for (unsigned int i = 1; i + 1 < sc->pages; i++)
		region.page_span[s->page + i] = span_id(s);
	set_page_class(s, c->cls);
}

/* Make a plain run of a span that is empty and in no group and on no list. */
static void retire(struct central *c, struct span *s, struct span_list *to)
{
	const struct sizeclass *sc = &sizeclasses[c->cls];

	set_page_class(s, CLASS_NONE);
	s->nr_pages = sc->pages;
	s->cls = CLASS_NONE;
	set_state(s, SPAN_LARGE);
	c->nr_spans--;
	atomic_fetch_sub_explicit(&spans_now, 1, memory_order_relaxed);
	span_list_add_tail(to, s);
}

static void reap(struct reaper *r)
{
	struct span *s;

	while (r->aliased.first) {
		s = span_at(r->aliased.first);
		span_list_del(&r->aliased, s);
		pageheap_free_purged(heap_of(s), s);
	}
	while (r->plain.first) {
		s = span_at(r->plain.first);
		span_list_del(&r->plain, s);
		pageheap_free(heap_of(s), s);
	}
}

/* The group of @s, on no list, is @s alone, and nothing in it is in use. */
static void drop_last(struct central *c, struct span *s, struct reaper *r)
{
	c->nr_groups--;
	retire(c, s, &r->plain);
}

/*
 * @s has lost its last slot: it leaves its group. Its group was listed with
 * @was slots in use.
 */
static void drop_empty(struct central *c, struct span *s, unsigned int was,
		       struct reaper *r)
{
	struct span *head = span_head(s);

	unlist_group(c, head, was);
	if (head->nr_members == 1) {
		drop_last(c, s, r);
		return;
	}
	head = leave_group(s);
	retire(c, s, &r->aliased);
	list_group(c, head);
}

/* Refill */

/* As span_group_live(); most groups are of one. */
static void group_live(const struct span *head, uint64_t live[SPAN_WORDS])
{
	if (likely(head->nr_members == 1))
		memcpy(live, head->own, sizeof(head->own));
	else
		span_group_live(head, live);
}

/*
 * Hand out free slots of a group from a random one on, in circular order, downwards:
 * thread caches take from the end, so addresses go up. Where in a span a batch starts is
 * random, and that is enough to mesh: it spreads survivors at least as well as a shuffle
 * does, and objects that are used one after the other stay neighbours. (A shuffle made a
 * Python program that walks its objects 45 % slower.)
 */
static unsigned int take_slots(struct central *c, struct span *head, void **out,
			       unsigned int nr)
{
	const struct sizeclass *sc = &sizeclasses[c->cls];
	unsigned int words = slot_words(sc);
	unsigned int start = random_below(c, sc->slots);
	unsigned int word = start / 64;
	unsigned int was = head->nr_live;
	uint64_t first = ~0ULL >> (63 - start % 64);
	uint64_t live[SPAN_WORDS];
	unsigned int n = 0;

	group_live(head, live);
	for (unsigned int i = 0; i <= words && n < nr; i++) {
		uint64_t free = free_slots(live, word, sc->slots);

		if (i == 0)
			free &= first;
		else if (i == words)
			free &= ~first;
		n += take_word(head, sc, word, free, out + n, nr - n);
		word = (word ? word : words) - 1;
	}
	head->nr_own += n;
	head->nr_live += n;
	c->nr_live += n;
	relist_group(c, head, was);
	return n;
}

/* As take_slots(), all slots of a fresh span, which is on no list and stays so. */
static unsigned int take_all(struct central *c, struct span *s, void **out)
{
	unsigned int slots = slots_of(c), n = 1 + random_below(c, slots);
	size_t size = sizeclasses[c->cls].size;
	char *base = span_addr(s);

	put_slots(out, base + (n - 1) * size, n, size);
	put_slots(out + n, base + (slots - 1) * size, slots - n, size);
	for (unsigned int word = 0; word * 64 < slots; word++)
		s->own[word] = free_slots(s->own, word, slots);
	s->nr_own = s->nr_live = (uint16_t)slots;
	c->nr_live += slots;
	return slots;
}

static struct span *fullest_partial(struct central *c)
{
	for (int i = CENTRAL_LISTS - 1; i >= 0; i--)
		if (c->partial[i].first)
			return span_at(c->partial[i].first);
	return NULL;
}

static unsigned int take_partial(struct central *c, void **out, unsigned int nr)
{
	unsigned int n = 0;

	while (n < nr) {
		struct span *s = fullest_partial(c);

		if (!s)
			break;
		n += take_slots(c, s, out + n, nr - n);
	}
	return n;
}

static void count_span(void)
{
	size_t now = atomic_fetch_add_explicit(&spans_now, 1, memory_order_relaxed) + 1;
	size_t hwm = atomic_load_explicit(&spans_hwm, memory_order_relaxed);

	atomic_fetch_add_explicit(&spans_made, 1, memory_order_relaxed);
	while (now > hwm)
		if (atomic_compare_exchange_weak_explicit(&spans_hwm, &hwm, now,
							  memory_order_relaxed,
							  memory_order_relaxed))
			break;
}

size_t central_spans_now(void)
{
	return atomic_load_explicit(&spans_now, memory_order_relaxed);
}

size_t central_spans_made(void)
{
	return atomic_load_explicit(&spans_made, memory_order_relaxed);
}

size_t central_spans_hwm(void)
{
	return atomic_load_explicit(&spans_hwm, memory_order_relaxed);
}

static size_t count_list(const struct span_list *l)
{
	size_t n = 0;

	for (uint32_t id = l->first; id; id = span_at(id)->next)
		n++;
	return n;
}

void central_histogram(unsigned int cls, size_t counts[CENTRAL_LISTS], size_t *full,
		       size_t *meshing)
{
	struct central *c = &centrals[cls];

	lock_acquire(&c->lock);
	*meshing = count_list(&c->meshing);
	*full = c->nr_groups - *meshing;
	for (unsigned int i = 0; i < CENTRAL_LISTS; i++) {
		counts[i] = count_list(&c->partial[i]);
		*full -= counts[i];
	}
	lock_release(&c->lock);
}

size_t central_meshed_pages(unsigned int cls)
{
	struct central *c = &centrals[cls];
	size_t meshed;

	lock_acquire(&c->lock);
	meshed = c->nr_spans - c->nr_groups;
	lock_release(&c->lock);
	return meshed * sizeclasses[cls].pages;
}

/* A fresh span, on no list; the lock is dropped while the page heap works. */
static struct span *add_span(struct central *c)
{
	struct span *s;

	lock_release(&c->lock);
	s = alloc_span(c->cls);
	if (unlikely(!s) && central_return_waiting())
		s = alloc_span(c->cls);
	if (s)
		init_span(c, s);
	lock_acquire(&c->lock);
	if (!s)
		return NULL;
	c->nr_spans++;
	c->nr_groups++;
	count_span();
	return s;
}

static unsigned int take_from_spans(struct central *c, void **out, unsigned int nr)
{
	unsigned int n = take_partial(c, out, nr);
	struct span *s;

	while (n < nr && (s = add_span(c)))
		n += nr - n < slots_of(c) ? take_slots(c, s, out + n, nr - n) :
					    take_all(c, s, out + n);
	/* Without the lock meanwhile: others may have returned something. */
	return n ? n : take_partial(c, out, nr);
}

unsigned int central_refill(unsigned int cls, void **out, unsigned int nr)
{
	struct central *c = &centrals[cls];
	unsigned int n;

	lock_acquire(&c->lock);
	n = transfer_get(&c->transfer, out, nr);
	if (!n)
		n = take_from_spans(c, out, nr);
	c->nr_refills++;
	lock_release(&c->lock);
	return n;
}

/* Return */

/* Without a lock: the program may handle SIGABRT, and allocate or fork there. */
_Noreturn MESH_COLD static void bad_return(struct central *c, const void *p,
					   const struct span *s)
{
	const struct sizeclass *sc = &sizeclasses[c->cls];
	bool ours = s->cls == c->cls;
	bool slot = slot_at(sc, (size_t)((const char *)p - span_addr(s))) < sc->slots;

	lock_release(&c->lock);
	park_abandon();
	if (!ours)
		fatal("double free of %p: its page has been given back since", p);
	if (!slot)
		fatal("free of %p: not the start of an object of %u bytes", p, sc->size);
	fatal("double free of %p, an object of %u bytes", p, sc->size);
}

/* The span of @p; abort unless it is of the class. */
static inline struct span *span_of_slot(struct central *c, const void *p)
{
	struct span *s = span_of(p);

	if (unlikely(s->cls != c->cls))
		bad_return(c, p, s);
	return s;
}

void central_must_have(unsigned int cls, const void *p)
{
	struct central *c = &centrals[cls];
	struct span *s;

	lock_acquire(&c->lock);
	s = span_of_slot(c, p);
	if (!slot_in_use(s, &sizeclasses[cls], p))
		bad_return(c, p, s);
	lock_release(&c->lock);
}

/* @nr slots of @s are free that were in use. */
static void slots_returned(struct central *c, struct span *s, unsigned int nr,
			   struct reaper *r)
{
	struct span *head = span_head(s);
	unsigned int was = head->nr_live;

	s->nr_own -= nr;
	head->nr_live -= nr;
	c->nr_live -= nr;
	if (head->state == SPAN_MESHING)
		return;
	if (s->nr_own == 0)
		drop_empty(c, s, was, r);
	else
		relist_group(c, head, was);
}

/*
 * Return the first of @nr slots and those that follow it in the same span: what was
 * allocated together is often freed together, and a span is looked up and listed
 * once for all of them. Returns their number.
 */
static unsigned int return_run(struct central *c, void *const *ptrs, unsigned int nr,
			       struct reaper *r)
{
	struct span *s = span_of_slot(c, ptrs[0]);
	unsigned int n = clear_slots(s, &sizeclasses[c->cls], ptrs, nr);

	if (unlikely(n == 0))
		bad_return(c, ptrs[0], s);
	slots_returned(c, s, n, r);
	return n;
}

static void fetch_span(const uint32_t *id)
{
	__builtin_prefetch(span_at(__atomic_load_n(id, __ATOMIC_RELAXED)), 1);
}

/* Are most of the slots, going by a few, in other pages than those that follow them? */
static bool scattered(void *const *ptrs, unsigned int nr)
{
	unsigned int step = nr > SAMPLES ? (nr - 1) / SAMPLES : 0, other = 0;

	for (unsigned int i = 0; step && i < SAMPLES; i++)
		other += region_page(ptrs[i * step]) != region_page(ptrs[i * step + 1]);
	return other > SAMPLES / 2;
}

/*
 * Descriptors of spans that are freed from at random are in no cache. All of them are asked
 * for at once, and then their neighbours on the lists, before the lock is taken. Who changes
 * the lists meanwhile makes it in vain, no more.
 */
static void fetch_spans(void *const *ptrs, unsigned int nr)
{
	struct span *spans[FETCH];
	unsigned int i, n = min_size(nr, FETCH);

	for (i = 0; i < n; i++) {
		spans[i] = span_of(ptrs[i]);
		__builtin_prefetch(spans[i], 1);
	}
	for (i = 0; i < n; i++) {
		fetch_span(&spans[i]->prev);
		fetch_span(&spans[i]->next);
	}
}

static void return_to_spans(struct central *c, void *const *ptrs, unsigned int nr,
			    struct reaper *r)
{
	for (unsigned int i = 0; i < nr;)
		i += return_run(c, ptrs + i, nr - i, r);
	c->nr_returns++;
}

void central_return(unsigned int cls, void *const *ptrs, unsigned int nr)
{
	struct central *c = &centrals[cls];
	struct reaper r = { 0 };

	if (scattered(ptrs, nr))
		fetch_spans(ptrs, nr);
	lock_acquire(&c->lock);
	return_to_spans(c, ptrs, nr, &r);
	lock_release(&c->lock);
	reap(&r);
	daemon_note_free(nr);
}

/* Up to FETCH slots from the transfer cache; their number. */
static unsigned int return_some(struct central *c, bool all, struct reaper *r)
{
	void *ptrs[FETCH];
	unsigned int n = transfer_take_idle(&c->transfer, ptrs, FETCH, all);

	if (n)
		return_to_spans(c, ptrs, n, r);
	return n;
}

void central_return_soon(unsigned int cls, void *const *ptrs, unsigned int nr)
{
	struct central *c = &centrals[cls];
	struct reaper r = { 0 };
	bool dense;

	if (!transfer_has_room(&c->transfer, nr) && scattered(ptrs, nr))
		fetch_spans(ptrs, nr);
	lock_acquire(&c->lock);
	dense = c->nr_live >= c->nr_spans * slots_of(c) / 2;
	if (!transfer_put(&c->transfer, ptrs, nr, dense)) {
		return_to_spans(c, ptrs, nr, &r);
		if (transfer_must_shrink(&c->transfer, dense))
			return_some(c, true, &r);
	}
	lock_release(&c->lock);
	reap(&r);
	daemon_note_free(nr);
}

unsigned int central_return_idle(unsigned int cls, bool all)
{
	struct central *c = &centrals[cls];
	struct reaper r = { 0 };
	unsigned int n;

	lock_acquire(&c->lock);
	n = return_some(c, all, &r);
	lock_release(&c->lock);
	reap(&r);
	if (n)
		daemon_note_free(n);
	return n;
}

/* Others may be filling them meanwhile: once. */
bool central_return_waiting(void)
{
	bool any = false;

	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		for (unsigned int n = 0; n < TRANSFER_SLOTS; n += FETCH) {
			if (!central_return_idle(cls, true))
				break;
			any = true;
		}
	return any;
}

/* What the mesher needs */

static void snapshot(struct mesh_cand *m, struct span *head)
{
	m->span = head;
	m->nr_live = head->nr_live;
	m->nr_members = head->nr_members;
	span_group_live(head, m->live);
}

static unsigned int isolate_list(struct central *c, struct span_list *l,
				 struct mesh_cand *out, unsigned int max)
{
	unsigned int n = 0;
	uint32_t id, next;

	for (id = l->first; id && n < max; id = next) {
		struct span *head = span_at(id);

		next = head->next;
		if (unlikely(head->keep))
			continue;
		span_list_del(l, head);
		set_state(head, SPAN_MESHING);
		span_list_add_tail(&c->meshing, head);
		snapshot(&out[n++], head);
	}
	return n;
}

unsigned int central_isolate(unsigned int cls, unsigned int lists, struct mesh_cand *out,
			     unsigned int max)
{
	struct central *c = &centrals[cls];
	unsigned int n = 0;

	lock_acquire(&c->lock);
	for (unsigned int i = 0; i < lists; i++)
		n += isolate_list(c, &c->partial[i], out + n, max - n);
	lock_release(&c->lock);
	return n;
}

void central_keep(unsigned int cls, const void *p)
{
	struct central *c = &centrals[cls];
	struct span *s;

	lock_acquire(&c->lock);
	s = span_of(p);
	if (s->cls == cls)
		span_head(s)->keep = true;
	lock_release(&c->lock);
}

/* Swapping the successors of one member of each makes one circle of two. */
static void splice_groups(struct span *a, struct span *b)
{
	uint32_t next = a->group_next;

	a->group_next = b->group_next;
	b->group_next = next;
}

void central_join(unsigned int cls, struct mesh_cand *dst, struct mesh_cand *src)
{
	struct central *c = &centrals[cls];
	struct span *head = dst->span;
	struct span *other = src->span;

	lock_acquire(&c->lock);
	span_list_del(&c->meshing, other);
	set_state(other, SPAN_MEMBER);
	set_head(other, head);
	splice_groups(head, other);
	head->nr_live += other->nr_live;
	head->nr_members += other->nr_members;
	c->nr_groups--;
	snapshot(dst, head);
	lock_release(&c->lock);
	src->span = NULL;
}

/* Drop the empty members of an isolated group, then list what is left. */
static void settle(struct central *c, struct span *head, struct reaper *r)
{
	struct span *s = span_group_next(head);

	span_list_del(&c->meshing, head);
	while (s != head) {
		struct span *next = span_group_next(s);

		if (s->nr_own == 0) {
			leave_group(s);
			retire(c, s, &r->aliased);
		}
		s = next;
	}
	if (head->nr_own == 0 && head->nr_members > 1) {
		s = head;
		head = leave_group(s);
		retire(c, s, &r->aliased);
	}
	if (head->nr_live == 0)
		drop_last(c, head, r);
	else
		list_group(c, head);
}

void central_putback(unsigned int cls, struct mesh_cand *cand, unsigned int nr)
{
	struct central *c = &centrals[cls];
	struct reaper r = { 0 };

	lock_acquire(&c->lock);
	for (unsigned int i = 0; i < nr; i++)
		if (cand[i].span)
			settle(c, cand[i].span, &r);
	lock_release(&c->lock);
	reap(&r);
}

/* fork: the caller owns all locks between prepare and parent or child */

void central_fork_prepare(void)
{
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		lock_fork_acquire(&centrals[cls].lock);
}

void central_fork_parent(void)
{
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++)
		lock_fork_release(&centrals[cls].lock);
}

/* There is no mesher in the child: what it had isolated goes back. */
void central_fork_child(void)
{
	for (unsigned int cls = 1; cls < NR_CLASSES; cls++) {
		struct central *c = &centrals[cls];
		struct reaper r = { 0 };

		while (c->meshing.first)
			settle(c, span_at(c->meshing.first), &r);
		reap(&r);
		lock_fork_release(&c->lock);
	}
}
