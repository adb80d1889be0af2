/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * pace.c: what the daemon does, and when.
 *
 * Busy process: a pass in every period, stretched so that passes take at most a
 * fifth of the time of one CPU; classes with a poor yield are skipped at times.
 * Quiet process, nothing freed since the last pass: passes over everything until
 * they find next to nothing; then it has settled and there are no more passes.
 * Free runs are given back once they have been dirty for a second. When that is
 * done as well the daemon dozes until about a 64th of the heap has been freed or a
 * trim is asked for.
 *
 * Caches of idle threads are emptied (park.c), and transfer caches of what nobody wants: they
 * are looked at every second, and less and less often, down to every two minutes, once nothing
 * is freed any more. If much comes out of them it is like any other memory that was freed.
 *
 * Memory is short, says the kernel (pressure.c): at once all free runs are given back and,
 * unless all is settled, a pass is made. Not again for a while, so that programs that all
 * hear of it at the same time do not make it worse.
 *
 * Threads: the daemon's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/signalfd.h>

#include "backend.h"
#include "daemon.h"
#include "dump.h"
#include "loop.h"
#include "mesher.h"
#include "message.h"
#include "options.h"
#include "os.h"
#include "pace.h"
#include "park.h"
#include "pressure.h"
#include "proc.h"

#define MSEC		1000000ULL
#define SECOND		(1000 * MSEC)

/* A pause is at least this many times as long as the pass before it ... */
#define IDLE_SHARE	4

/* ... but never longer than this. */
#define LONGEST_PAUSE	(2 * SECOND)

/* Between two looks at dirty runs that are not old enough. */
#define AGING_PAUSE	(SECOND / 4)

/* Fewer merges than one in this many candidates are next to nothing. */
#define TOO_FEW		64

/* Quiet passes in a row that find next to nothing, until all is settled. */
#define SETTLED		2

/* Passes that a trim makes at most. */
#define TRIM_PASSES	16

/* Between two looks at the caches. */
#define FIRST_LOOK	SECOND
#define LONGEST_LOOK	(128 * SECOND)

/* Between two answers to pressure, at least. */
#define RELIEF_PAUSE	(2 * SECOND)

/* In a doze, between two looks at whether the main thread is still there. */
#define LONGEST_SLEEP	(128 * SECOND)

/* A doze ends after this, and after more each time, where merges do not last or were refused. */
#define FIRST_DOZE	(4 * SECOND)
#define LONGEST_DOZE	(128 * SECOND)

/* Freed slots and pages that end a doze: this, and in_use / DOZE_SHARE. */
#define DOZE_MIN	64
#define DOZE_SHARE	64

/**
 * struct aging - dirty pages of a page heap
 * @heap: the heap
 * @since: start of the present second
 * @least: fewest dirty pages seen since: that many have waited long enough
 * @stuck: dirty pages left after a purge that achieved nothing
 */
struct aging {
	struct pageheap *heap;
	uint64_t since;
	size_t least;
	size_t stuck;
};

/**
 * struct pace - state of the daemon
 * @ops: backend
 * @loop: what it waits with
 * @kick_fd: readable when somebody wants something
 * @pressure_fd: tells when memory is short, or -1
 * @pressed: memory is short and nothing was done about it yet
 * @relief_after: time until which nobody asks whether it is
 * @broken: waiting does not work any more; the daemon ends
 * @opened: @ops->mesh_open() has worked
 * @can_mesh: and merging has not come to an end since
 * @frees: daemon_frees when the last pass began
 * @poor: quiet passes in a row that found next to nothing
 * @spent: nanoseconds of work in the last pass
 * @doze: longest doze
 * @refused: the last pass was refused more than next to nothing
 * @renewed: spans merged anew before it
 * @can_park: caches of idle threads can be emptied
 * @look_at: when the caches are looked at
 * @look_pause: time until the look after that
 * @ages: dirty pages
 */
struct pace {
	const struct backend_ops *ops;
	const struct loop_ops *loop;
	int kick_fd;
	int pressure_fd;
	bool pressed;
	uint64_t relief_after;
	bool broken;
	bool opened;
	bool can_mesh;
	unsigned long frees;
	unsigned int poor;
	uint64_t spent;
	uint64_t doze;
	bool refused;
	unsigned long renewed;
	bool can_park;
	uint64_t look_at;
	uint64_t look_pause;
	struct aging ages[2];
};

static bool quitting(const struct pace *p)
{
	return p->broken || atomic_load_explicit(&mesher_quit, memory_order_relaxed);
}

/* A filter that the program has installed meanwhile can have taken anything away. */
static void cannot_wait(struct pace *p, const char *what, int err)
{
	verbose("no meshing any more: %s: %s", what, strerrordesc_np(-err));
	p->broken = true;
}

static int use_loop(struct pace *p, const struct loop_ops *loop)
{
	int ret = loop->open(p->kick_fd, p->pressure_fd);

	if (!ret)
		p->loop = loop;
	return ret;
}

/* The poll loop always works. */
static void open_loop(struct pace *p)
{
	int ret;

	if (options.loop != LOOP_POLL) {
		ret = use_loop(p, &loop_uring);
		if (!ret)
			return;
		verbose("no io_uring: %s; using poll", strerrordesc_np(-ret));
	}
	use_loop(p, &loop_poll);
}

static void watch_pressure(struct pace *p)
{
	p->pressure_fd = options.pressure ? pressure_open() : -1;
	if (options.pressure && p->pressure_fd < 0)
		verbose("memory pressure goes unnoticed: %s",
			strerrordesc_np(-p->pressure_fd));
}

/* The process has left its cgroup, which is gone: there may be another one. */
static void rewatch_pressure(struct pace *p)
{
	p->loop->close();
	os_close(p->pressure_fd);
	watch_pressure(p);
	open_loop(p);
	p->relief_after = os_now_ns() + RELIEF_PAUSE;
}

static void loop_failed(struct pace *p, int err)
{
	if (p->loop == &loop_poll) {
		cannot_wait(p, "ppoll", err);
		return;
	}
	verbose("%s loop failed: %s; using poll", p->loop->name, strerrordesc_np(-err));
	p->loop->close();
	use_loop(p, &loop_poll);
}

/* A kick that cannot be read would be seen again at once, and again. */
static void drain_kicks(struct pace *p)
{
	struct signalfd_siginfo si;
	long ret;

	do
		ret = os_read(p->kick_fd, &si, sizeof(si));
	while (ret > 0 || ret == -EINTR);
	if (ret != -EAGAIN)
		cannot_wait(p, "signalfd", ret ? (int)ret : -EIO);
}

/* Wait at most @ns; the reason why it ended is for the caller to find out. */
static void wait_once(struct pace *p, uint64_t ns)
{
	uint64_t now = os_now_ns();
	bool watch = now >= p->relief_after;
	int ret;

	if (!now) {
		cannot_wait(p, "clock_gettime", -EPERM);
		return;
	}
	if (!watch && ns > p->relief_after - now)
		ns = p->relief_after - now;
	/* A kick ends the wait, and what it was for is looked for before the next one. */
	dump_serve();
	ret = p->loop->wait(ns, watch);
	if (ret < 0) {
		loop_failed(p, ret);
		return;
	}
	if (ret & LOOP_KICK)
		drain_kicks(p);
	if (ret & LOOP_PRESSURE)
		p->pressed = true;
	if (ret & LOOP_UNWATCHED)
		rewatch_pressure(p);
}

/* Is there something that cannot wait? */
static bool urgent(const struct pace *p)
{
	return quitting(p) || daemon_trim_pending() || p->pressed;
}

/* Let @ns pass, unless there is something to do at once. */
static void rest(struct pace *p, uint64_t ns)
{
	uint64_t now = os_now_ns(), end = now + ns;

	for (; now < end && !urgent(p); now = os_now_ns())
		wait_once(p, end - now);
}

/* So many slots and pages have to be freed in a heap that has settled, to be noticed. */
static unsigned long enough(void)
{
	size_t in_use;

	mesher_lock();
	in_use = pageheap_in_use(&heap_arena);
	mesher_unlock();
	return DOZE_MIN + in_use / DOZE_SHARE;
}

static size_t dirty_pages(struct pageheap *ph)
{
	size_t dirty;

	mesher_lock();
	dirty = pageheap_dirty(ph);
	mesher_unlock();
	return dirty;
}

static void purge_later(bool later)
{
	mesher_lock();
	pageheap_purge_later(&heap_arena, later);
	mesher_unlock();
}

/*
 * What was refused, as memory is that children of fork share, may be merged later: there is nobody
 * who tells. The longer nothing came of it, or had to be merged anew, the longer nobody looks.
 */
static uint64_t longest_doze(struct pace *p)
{
	unsigned long renewed = atomic_load(&mesh_stats.renewed);

	if (!p->can_mesh || (!p->ops->begin_pass && !p->refused))
		return LOOP_FOREVER;
	if (renewed != p->renewed || !p->doze)
		p->doze = FIRST_DOZE;
	else if (p->doze < LONGEST_DOZE)
		p->doze *= 2;
	p->renewed = renewed;
	return os_now_ns() + p->doze;
}

/* Take back what idle threads have in their caches, and what waits for somebody to want it. */
static void look(struct pace *p, bool all)
{
	if (p->can_park)
		mesh_stat_add(&mesh_stats.taken_back, park_idle());
	mesh_stat_add(&mesh_stats.taken_back, park_transfers(all));
	p->look_at = os_now_ns() + p->look_pause;
}

static void look_if_due(struct pace *p)
{
	if (os_now_ns() < p->look_at)
		return;
	if (p->poor < SETTLED)
		p->look_pause = FIRST_LOOK;
	else if (p->look_pause < LONGEST_LOOK)
		p->look_pause *= 2;
	look(p, false);
}

/* Threads do something again. */
static void look_soon(struct pace *p)
{
	uint64_t soon = os_now_ns() + FIRST_LOOK;

	p->look_pause = FIRST_LOOK;
	if (soon < p->look_at)
		p->look_at = soon;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * Sleep, with a timer for what has to be looked at only. daemon_wake_at is raised before
 * daemon_frees is looked at, daemon_note_free() does it the other way round: one of the two
 * notices.
 */
static void doze(struct pace *p)
{
	unsigned long wake_at = p->frees + enough();
	uint64_t now = os_now_ns(), end = longest_doze(p), next;

	atomic_store(&daemon_wake_at, wake_at);
	while (!urgent(p) && now < end &&
	       atomic_load(&daemon_wake_at) != ULONG_MAX &&
	       (long)(atomic_load(&daemon_frees) - wake_at) < 0) {
		next = earlier(earlier(end, p->look_at), now + LONGEST_SLEEP);
		wait_once(p, next > now ? next - now : 0);
		look_if_due(p);
		/*
		 * A main thread that ends by a system call of its own making does not tell,
		 * and there need not be others: who counts them counts those of io_uring, too.
		 */
		if (proc_main_status() >= 0)
			atomic_store(&mesher_quit, true);
		now = os_now_ns();
	}
	atomic_store(&daemon_wake_at, ULONG_MAX);
	if (now >= end)
		p->poor = SETTLED - 1;	/* one pass */
}

/* Is it more than next to nothing, for a pass that has made @out? */
static bool worthwhile(unsigned long pairs, const struct mesh_outcome *out)
{
	return pairs && pairs * TOO_FEW >= out->candidates;
}

static void check_ended(struct pace *p)
{
	if (p->ops->ended && p->ops->ended())
		p->can_mesh = false;
}

/* A pass; whether it was worth it. */
static bool pass(struct pace *p, bool all)
{
	struct mesh_outcome out = mesher_pass(p->ops, all);

	check_ended(p);
	p->refused = worthwhile(out.refused, &out);
	return worthwhile(out.merged, &out);
}

/* @all: look at every class. */
static void mesh(struct pace *p, bool all)
{
	unsigned long frees = atomic_load(&daemon_frees);
	bool quiet = frees == p->frees, good;
	unsigned long spent = atomic_load(&mesh_stats.mesh_ns);

	mesher_set_gentle(!all, p->frees);
	if (p->poor >= SETTLED && !all && frees - p->frees < enough())
		return;
	p->frees = frees;
	if (!quiet) {
		p->poor = 0;
		look_soon(p);
	}
	if (!p->can_mesh || p->poor >= SETTLED) {
		if (quiet)
			p->poor = SETTLED;
		return;
	}
	good = pass(p, quiet || all);
	if (good)
		p->doze = 0;
	if (quiet)
		p->poor = good ? 0 : p->poor + 1;
	p->spent = atomic_load(&mesh_stats.mesh_ns) - spent;
}

/* Before the tidying: it can free what spans that are gone have shown. */
static void tidy(struct pace *p)
{
	mesher_purge_lost(&heap_arena);
	if (p->opened && p->ops->tidy)
		p->ops->tidy();
}

static void age(struct pace *p, struct aging *a)
{
	size_t dirty = dirty_pages(a->heap);
	uint64_t now = os_now_ns();

	if (!options.freephys)
		return;
	if (dirty < a->least)
		a->least = dirty;
	if (dirty < a->stuck)
		a->stuck = 0;
	if (now - a->since < SECOND)
		return;
	if (a->least && !mesher_purge(a->heap, p->ops, p->loop, a->least))
		a->stuck = a->least;
	a->since = now;
	a->least = dirty_pages(a->heap);
}

/* Is there dirty memory that can still be given back? */
static bool aging(const struct pace *p)
{
	return options.freephys &&
	       (dirty_pages(p->ages[0].heap) > p->ages[0].stuck ||
		dirty_pages(p->ages[1].heap) > p->ages[1].stuck);
}

static void trim(struct pace *p)
{
	uint32_t asked = daemon_trims_asked();
	unsigned int i;

	mesher_set_gentle(false, 0);
	look(p, true);
	p->frees = atomic_load(&daemon_frees);
	p->poor = SETTLED;
	for (i = 0; p->can_mesh && i < TRIM_PASSES && !quitting(p); i++)
		if (!pass(p, true))
			break;
	mesher_purge(&heap_arena, p->ops, p->loop, SIZE_MAX);
	mesher_purge(&heap_anon, p->ops, p->loop, SIZE_MAX);
	tidy(p);
	daemon_trims_done(asked);
}

/* What is free comes first: it only has to be given back. */
static void relieve(struct pace *p)
{
	uint64_t pause, begun = os_now_ns();

	p->pressed = false;
	mesh_stat_add(&mesh_stats.pressed, 1);
	look(p, true);
	if (options.freephys) {
		mesher_purge(&heap_arena, p->ops, p->loop, SIZE_MAX);
		mesher_purge(&heap_anon, p->ops, p->loop, SIZE_MAX);
	}
	mesh(p, true);
	pause = (os_now_ns() - begun) * IDLE_SHARE;
	p->relief_after = os_now_ns() + (pause > RELIEF_PAUSE ? pause : RELIEF_PAUSE);
}

static uint64_t pause_after_pass(const struct pace *p)
{
	uint64_t period = options_period_ms() * MSEC;
	uint64_t stretched = p->spent * IDLE_SHARE;

	if (stretched > LONGEST_PAUSE)
		stretched = LONGEST_PAUSE;
	return stretched > period ? stretched : period;
}

/* One turn: sleep as the state of things allows, then do what is due. */
static void turn(struct pace *p)
{
	if (p->poor < SETTLED) {
		rest(p, pause_after_pass(p));
	} else if (aging(p)) {
		rest(p, AGING_PAUSE);
	} else {
		doze(p);
		/* Frees come in crowds: let the others arrive. */
		rest(p, options_period_ms() * MSEC);
	}
	if (quitting(p))
		return;
	if (daemon_trim_pending())
		trim(p);
	else if (p->pressed)
		relieve(p);
	else
		mesh(p, false);
	look_if_due(p);
	age(p, &p->ages[0]);
	age(p, &p->ages[1]);
	tidy(p);
}

static bool open_park(void)
{
	int ret = park_open();

	if (ret)
		verbose("the caches of idle threads stay as they are: membarrier: %s",
			strerrordesc_np(-ret));
	return !ret;
}

void pace_run(int kick_fd)
{
	struct pace p = {
		.ops = backend_current(),
		.loop = &loop_poll,
		.kick_fd = kick_fd,
		.look_at = os_now_ns() + FIRST_LOOK,
		.look_pause = FIRST_LOOK,
		.ages = { { .heap = &heap_arena }, { .heap = &heap_anon } },
	};

	watch_pressure(&p);
	open_loop(&p);
	p.can_park = open_park();
	p.opened = p.ops->mesh_open && p.ops->mesh_open() == 0;
	p.can_mesh = p.opened;
	purge_later(p.opened && p.ops->merged);
	while (!quitting(&p))
		turn(&p);
	mesher_set_gentle(false, 0);
	purge_later(false);
	mesher_purge_lost(&heap_arena);
	if (p.opened)
		p.ops->mesh_close();
	p.loop->close();
	if (p.pressure_fd >= 0)
		os_close(p.pressure_fd);
	os_close(kick_fd);
}
