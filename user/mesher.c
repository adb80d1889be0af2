/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * mesher.c: one meshing pass, class by class.
 *
 *	isolate -> search -> merge -> join ... -> put back
 *
 * A step isolates up to SEARCH_MAX sparse groups of a class, packs them into as few as
 * it can, and puts them back. It searches and merges by turns, a little of each: fork may
 * be waiting. What a merge is refused for is left for the next pass.
 *
 * Classes that yield little are skipped for a while, more often each time.
 *
 * While the program is busy the daemon sleeps a little after every 50 us or so. A scheduler lets
 * whoever runs go on until a tick, which is some milliseconds, and where no processor is idle a
 * thread of the program would wait for so long. (sched_yield() does not help: who has slept is
 * owed time.) Fork ends such a sleep.
 *
 * Locks: the mesh lock is held for a step and is what fork waits for. The search
 * and the system calls are made with no other lock held: isolated groups keep
 * their members, and the only thing that can happen to them is that slots are
 * freed, which makes the snapshot a superset. central_*() take the class lock.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

#include "central.h"
#include "daemon.h"
#include "lock.h"
#include "mesher.h"
#include "os.h"
#include "search.h"

/* Groups isolated or put back under the lock of their class at a time: malloc waits. */
#define CHUNK	256

/* Pairs found, and comparisons made, between two looks at whether somebody wants to fork. */
#define FOUND	512
#define BUDGET	50000

/* Most pairs merged between two such looks. */
#define SLICE	32

/* Runs, and pages, purged together: fork waits. */
#define PURGE_BATCH	64
#define PURGE_PAGES	4096

/* Nanoseconds that a gentle daemon works at least, and sleeps, by turns. */
#define STRETCH		50000
#define REST		100000

/* Fewer merges than one in this many candidates are a poor yield. */
#define POOR_YIELD	32

/* Most passes that a class with a poor yield is skipped for. */
#define MAX_SKIP	31

struct mesh_stats mesh_stats;
atomic_bool mesher_quit;

static struct lock mesh_lock = LOCK_INITIALIZER(LOCK_MESH);

/* Threads that want to fork; a futex. */
static _Atomic uint32_t forks_waiting;

/* The daemon sleeps on it, with the mesh lock. */
static atomic_bool resting;

/* For classes with a poor yield: passes to skip, now and the next time. */
static struct {
	uint8_t now;
	uint8_t next;
} skip[NR_CLASSES];

/* What a step works with; mapped once, inherited by children of fork. */
struct scratch {
	struct mesh_cand cand[SEARCH_MAX];
	struct search search;
	struct search_pair pairs[FOUND];
	struct merge_req reqs[SLICE];
	uintptr_t members[2 * SLICE][MERGE_MAX_MEMBERS];
	bool in_slice[SEARCH_MAX];
};

static struct scratch *scratch;

/* Of the present step, under the mesh lock. */
static uint64_t step_begun;
static uint64_t last_checkpoint;

/*
 * The daemon's: whether it rests, once daemon_frees is not this any more, and when the present
 * stretch began.
 */
static bool gentle;
static unsigned long quiet_at;
static uint64_t stretch_begun;

/**
 * struct step - the class that is being looked at
 * @ops: backend
 * @cls: size class
 * @sc: its sizes
 * @lim: limits of a merged group
 * @renew: merge anew what was written to
 */
struct step {
	const struct backend_ops *ops;
	unsigned int cls;
	const struct sizeclass *sc;
	struct search_limits lim;
	bool renew;
};

/*
 * A stretch of work that cannot be interrupted ends here: remember the longest.
 */
static void checkpoint(void)
{
	uint64_t now = os_now_ns(), ns = now - last_checkpoint;

	last_checkpoint = now;
	if (ns > atomic_load_explicit(&mesh_stats.longest_ns, memory_order_relaxed))
		atomic_store_explicit(&mesh_stats.longest_ns, ns,
				      memory_order_relaxed);
}

/* Is somebody waiting for the present step to end? */
static bool is_awaited(void)
{
	return atomic_load_explicit(&forks_waiting, memory_order_relaxed) ||
	       atomic_load_explicit(&mesher_quit, memory_order_relaxed);
}

/* Nobody waits for the daemon, and the program is busy, or has become so. */
static bool may_rest(void)
{
	return gentle && atomic_load_explicit(&daemon_frees, memory_order_relaxed) != quiet_at &&
	       !is_awaited() && !daemon_trim_pending();
}

/* The end of a stretch. No lock that malloc or free take is held. */
static void rest_if_due(void)
{
	const struct timespec ts = { .tv_nsec = REST };
	uint64_t begun;

	checkpoint();
	begun = last_checkpoint;
	if (begun - stretch_begun < STRETCH || !may_rest())
		return;
	/* mesher_fork_prepare() does it the other way round: one of the two notices */
	atomic_store(&resting, true);
	os_futex_wait(&forks_waiting, 0, &ts);
	atomic_store(&resting, false);
	stretch_begun = last_checkpoint = os_now_ns();
	step_begun += stretch_begun - begun;
}

/* The end of a stretch: must it be that of the step? */
static bool must_stop(void)
{
	rest_if_due();
	return is_awaited();
}

/*
 * Take the mesh lock, but after those who want to fork: the lock is not fair,
 * and a pass takes it again and again. Who is forking has it.
 */
void mesher_lock(void)
{
	const struct timespec ts = { .tv_nsec = 10000000 };
	uint32_t n;

	while (!lock_fork_owner &&
	       (n = atomic_load_explicit(&forks_waiting, memory_order_relaxed)))
		os_futex_wait(&forks_waiting, n, &ts);
	lock_acquire(&mesh_lock);
}

void mesher_unlock(void)
{
	lock_release(&mesh_lock);
}

static void begin_step(void)
{
	uint64_t ended = last_checkpoint;

	mesher_lock();
	step_begun = last_checkpoint = os_now_ns();
	/* It has slept since, or waited. */
	if (step_begun - ended > REST)
		stretch_begun = step_begun;
	rest_if_due();
}

static void end_step(void)
{
	checkpoint();
	mesh_stat_add(&mesh_stats.mesh_ns, last_checkpoint - step_begun);
	mesher_unlock();
}

void mesher_set_gentle(bool on, unsigned long frees)
{
	gentle = on;
	quiet_at = frees;
}

int mesher_open(void)
{
	if (!scratch)
		scratch = os_map(round_up(sizeof(*scratch), PAGE_SIZE));
	return scratch ? 0 : -ENOMEM;
}

/* No lock: a group in state SPAN_MESHING keeps its members. */
static unsigned int list_members(const struct span *head, uintptr_t *out)
{
	const struct span *s = head;
	unsigned int n = 0;

	do {
		out[n++] = (uintptr_t)span_addr(s);
		s = span_group_next(s);
	} while (s != head && n < MERGE_MAX_MEMBERS);
	return n;
}

/* The request of a pair, as number @i of a slice. */
static void build_request(const struct step *st, const struct search_pair *pair,
			  unsigned int i)
{
	const struct mesh_cand *src = &scratch->cand[pair->src];
	const struct mesh_cand *dst = &scratch->cand[pair->dst];
	struct merge_req *req = &scratch->reqs[i];

	req->src = (uintptr_t)span_addr(src->span);
	req->dst = (uintptr_t)span_addr(dst->span);
	req->pages = st->sc->pages;
	req->slot_size = st->sc->size;
	memcpy(req->live, src->live, sizeof(req->live));
	req->members = scratch->members[2 * i];
	req->nr_members = list_members(src->span, scratch->members[2 * i]);
	req->dst_members = scratch->members[2 * i + 1];
	req->nr_dst_members = list_members(dst->span, scratch->members[2 * i + 1]);
	req->result = -ECANCELED;
}

static void count_refusal(int result)
{
	switch (result) {
	case -EAGAIN:
		mesh_stat_add(&mesh_stats.refused_written, 1);
		break;
	case -EBUSY:
	case -ETXTBSY:
		mesh_stat_add(&mesh_stats.refused_busy, 1);
		break;
	case -ENOENT:
		mesh_stat_add(&mesh_stats.refused_absent, 1);
		break;
	default:
		mesh_stat_add(&mesh_stats.refused_other, 1);
	}
}

/* Join what the backend has merged. */
static unsigned int commit(const struct step *st, const struct search_pair *pair, int result)
{
	struct mesh_cand *c = scratch->cand;

	if (result) {
		count_refusal(result);
		return 0;
	}
	central_join(st->cls, &c[pair->dst], &c[pair->src]);
	return 1;
}

/*
 * Move pairs to the front that can be merged in one request: a group is in one of them
 * only, as the next merge starts from what this one leaves. Returns how many.
 */
static unsigned int choose_slice(struct search_pair *pairs, unsigned int n, unsigned int max)
{
	unsigned int i, some = 0;

	for (i = 0; i < n && some < max; i++) {
		struct search_pair pair = pairs[i];

		if (scratch->in_slice[pair.dst])
			continue;
		scratch->in_slice[pair.dst] = true;
		pairs[i] = pairs[some];
		pairs[some++] = pair;
	}
	for (i = 0; i < some; i++)
		scratch->in_slice[pairs[i].dst] = false;
	return some;
}

/* One request to the backend; how many pairs were merged. */
static unsigned int merge_slice(const struct step *st, const struct search_pair *pairs,
				unsigned int n)
{
	unsigned int i, merged = 0;
	uint64_t saved;

	for (i = 0; i < n; i++)
		build_request(st, &pairs[i], i);
	saved = st->ops->merge(scratch->reqs, n);
	for (i = 0; i < n; i++)
		merged += commit(st, &pairs[i], scratch->reqs[i].result);
	mesh_stat_add(&mesh_stats.pairs, n);
	mesh_stat_add(&mesh_stats.merged, merged);
	mesh_stat_add(&mesh_stats.pages_merged, merged * st->sc->pages);
	mesh_stat_add(&mesh_stats.pss_saved, saved);
	return merged;
}

/* Merge the pairs that a search has found; how many were merged. */
static unsigned int merge_pairs(const struct step *st, unsigned int found)
{
	unsigned int max = st->ops->slice < SLICE ? st->ops->slice : SLICE;
	unsigned int i, some, merged = 0;

	for (i = 0; i < found && !must_stop(); i += some) {
		some = choose_slice(scratch->pairs + i, found - i, max);
		merged += merge_slice(st, scratch->pairs + i, some);
	}
	return merged;
}

/* Pack @n isolated groups; how many were merged. */
static unsigned int pack(const struct step *st, unsigned int n)
{
	struct search *search = &scratch->search;
	unsigned int merged = 0;
	uint64_t probes = 0;

	search_begin(search, scratch->cand, n, &st->lim);
	while (!search_done(search) && !must_stop()) {
		unsigned int found = search_next(search, scratch->pairs, FOUND, BUDGET,
						 &probes);

		merged += merge_pairs(st, found);
	}
	mesh_stat_add(&mesh_stats.probes, probes);
	return merged;
}

/* Those that are too full to be worth it may have been written to. */
static unsigned int isolate(const struct step *st)
{
	unsigned int lists = st->renew ? CENTRAL_LISTS : CENTRAL_MESH_LISTS;
	unsigned int n = 0, some;

	do {
		some = central_isolate(st->cls, lists, scratch->cand + n, CHUNK);
		n += some;
		rest_if_due();
	} while (some == CHUNK && n < SEARCH_MAX);
	return n;
}

static void put_back(unsigned int cls, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i += CHUNK) {
		central_putback(cls, scratch->cand + i, n - i < CHUNK ? n - i : CHUNK);
		rest_if_due();
	}
}

static unsigned int renew_group(const struct step *st, const struct span *head)
{
	struct renew_req req = { .pages = st->sc->pages, .slot_size = st->sc->size };
	const struct span *s = head;
	unsigned int n = 0;

	do {
		req.addr = (uintptr_t)span_addr(s);
		memcpy(req.live, s->own, sizeof(req.live));
		n += st->ops->renew(&req);
		s = span_group_next(s);
	} while (s != head);
	return n;
}

/* Among the @n groups that are held; slots that are freed meanwhile do not matter. */
static void renew_groups(const struct step *st, unsigned int n)
{
	unsigned int i, renewed = 0;

	for (i = 0; i < n && !must_stop(); i++)
		if (scratch->cand[i].span && scratch->cand[i].nr_members > 1)
			renewed += renew_group(st, scratch->cand[i].span);
	mesh_stat_add(&mesh_stats.renewed, renewed);
}

/* Move what is behind the frontier to the end of the candidates; how many are not. */
static unsigned int within_frontier(const struct step *st, unsigned int n)
{
	uint32_t frontier = st->ops->frontier ? st->ops->frontier() : AREA_PAGES;
	struct mesh_cand *c = scratch->cand, beyond;
	unsigned int i = 0;

	while (i < n) {
		if (c[i].span->page < frontier) {
			i++;
			continue;
		}
		beyond = c[i];
		c[i] = c[--n];
		c[n] = beyond;
	}
	return n;
}

/*
 * One step: up to SEARCH_MAX groups of one class.
 *
 * Return: whether there may be more that it has not seen.
 */
static bool mesh_step(const struct step *st, struct mesh_outcome *out)
{
	unsigned int n;

	begin_step();
	n = isolate(st);
	out->merged += pack(st, within_frontier(st, n));
	if (st->renew)
		renew_groups(st, n);
	put_back(st->cls, n);
	end_step();
	out->candidates += n;
	return n == SEARCH_MAX;
}

static struct mesh_outcome mesh_class(const struct backend_ops *ops,
				      unsigned int cls, bool renew)
{
	const struct step st = {
		.ops = ops,
		.cls = cls,
		.sc = &sizeclasses[cls],
		.lim = {
			.slots = sizeclasses[cls].slots,
			.members = MERGE_MAX_MEMBERS,
		},
		.renew = renew,
	};
	struct mesh_outcome out = { 0 };

	/* The number of groups is read without the lock: a bound, no more. */
	while (mesh_step(&st, &out))
		if (out.candidates >= centrals[cls].nr_groups ||
		    atomic_load_explicit(&mesher_quit, memory_order_relaxed))
			break;
	return out;
}

/* Decide when to look at a class again. */
static void set_skip(unsigned int cls, const struct mesh_outcome *out)
{
	if (out->merged * POOR_YIELD >= out->candidates)
		skip[cls].next = 0;
	else if (skip[cls].next < MAX_SKIP)
		skip[cls].next = 2 * skip[cls].next + 1;
	skip[cls].now = skip[cls].next;
}

/* There are never more meshed pages than right after a pass. */
static void note_meshed(void)
{
	unsigned long pages = 0;
	unsigned int cls;

	mesher_lock();
	for (cls = 1; cls <= NR_SMALL_CLASSES; cls++)
		pages += central_meshed_pages(cls);
	mesher_unlock();
	if (pages > atomic_load_explicit(&mesh_stats.pages_meshed_hwm, memory_order_relaxed))
		atomic_store_explicit(&mesh_stats.pages_meshed_hwm, pages,
				      memory_order_relaxed);
}

static void visit_class(const struct backend_ops *ops, unsigned int cls, bool all,
			bool renew, struct mesh_outcome *sum)
{
	struct mesh_outcome out;

	if (atomic_load_explicit(&mesher_quit, memory_order_relaxed))
		return;
	if (!all && !renew && skip[cls].now) {
		skip[cls].now--;
		return;
	}
	out = mesh_class(ops, cls, renew);
	set_skip(cls, &out);
	sum->candidates += out.candidates;
	sum->merged += out.merged;
}

/* Since the start. Only the daemon merges, so this and another call make a difference. */
static unsigned long pairs_refused(void)
{
	return atomic_load_explicit(&mesh_stats.pairs, memory_order_relaxed) -
	       atomic_load_explicit(&mesh_stats.merged, memory_order_relaxed);
}

/* Spans of many pages first: one merge, or one mapping, saves more. */
struct mesh_outcome mesher_pass(const struct backend_ops *ops, bool all)
{
	bool renew = ops->begin_pass && ops->begin_pass();
	unsigned long refused = pairs_refused();
	struct mesh_outcome sum = { 0 };
	unsigned int cls;

	for (cls = 1; cls <= NR_SMALL_CLASSES; cls++)
		if (sizeclasses[cls].pages > 1)
			visit_class(ops, cls, all, renew, &sum);
	for (cls = 1; cls <= NR_SMALL_CLASSES; cls++)
		if (sizeclasses[cls].pages == 1)
			visit_class(ops, cls, all, renew, &sum);
	sum.refused = pairs_refused() - refused;
	mesh_stat_add(&mesh_stats.passes, 1);
	mesh_stat_add(&mesh_stats.candidates, sum.candidates);
	note_meshed();
	return sum;
}

/* Take, purge and put back one batch; pages given back. */
static size_t purge_batch(struct pageheap *ph, const struct loop_ops *loop,
			  int advice)
{
	struct loop_purge p[PURGE_BATCH];
	struct span *runs[PURGE_BATCH];
	unsigned int i, n = 0;
	size_t purged = 0, pages = 0;

	while (n < PURGE_BATCH && pages < PURGE_PAGES &&
	       (runs[n] = pageheap_purge_begin(ph, PURGE_PAGES - pages))) {
		p[n].addr = span_addr(runs[n]);
		p[n].len = runs[n]->nr_pages * PAGE_SIZE;
		pages += runs[n]->nr_pages;
		n++;
	}
	loop->purge(p, n, advice);
	for (i = 0; i < n; i++) {
		if (p[i].result) {
			purged += pageheap_purge_parts(ph, runs[i]);
			continue;
		}
		pageheap_purge_end(ph, runs[i], true);
		purged += p[i].len >> PAGE_SHIFT;
	}
	return purged;
}

size_t mesher_purge(struct pageheap *ph, const struct backend_ops *ops,
		    const struct loop_ops *loop, size_t max_pages)
{
	int advice = ph == &heap_arena ? ops->purge_advice : MADV_DONTNEED;
	size_t purged = 0, batch;

	/* What cannot be purged is dirty again: no progress is the end. */
	do {
		begin_step();
		batch = purge_batch(ph, loop, advice);
		end_step();
		purged += batch;
	} while (batch && purged < max_pages);
	mesh_stat_add(&mesh_stats.pages_purged, purged);
	return purged;
}

void mesher_purge_lost(struct pageheap *ph)
{
	bool more;

	do {
		begin_step();
		more = pageheap_purge_lost(ph, PURGE_BATCH);
		end_step();
	} while (more);
}

void mesher_fork_prepare(void)
{
	atomic_fetch_add(&forks_waiting, 1);
	if (atomic_load(&resting))
		os_futex_wake(&forks_waiting, INT_MAX);
	lock_acquire(&mesh_lock);
}

void mesher_fork_parent(void)
{
	lock_release(&mesh_lock);
	atomic_fetch_sub_explicit(&forks_waiting, 1, memory_order_relaxed);
	os_futex_wake(&forks_waiting, INT_MAX);
}

/* Alone: nobody waits, and what the parent has counted is the parent's. */
void mesher_fork_child(bool held)
{
	/* Without the lock another thread may have had it. */
	if (held)
		lock_release(&mesh_lock);
	else
		lock_fork_release(&mesh_lock);
	atomic_store_explicit(&forks_waiting, 0, memory_order_relaxed);
	atomic_store_explicit(&resting, false, memory_order_relaxed);
	gentle = false;
	memset(&mesh_stats, 0, sizeof(mesh_stats));
}
