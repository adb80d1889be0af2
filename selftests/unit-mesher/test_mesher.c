/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Passes over a fake heap: every request is checked by the fake backend, every
 * group afterwards, and the counters must add up.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "check.h"
#include "daemon.h"
#include "fake_heap.h"
#include "mesher.h"
#include "os.h"

/* What the daemon would know. */
atomic_ulong daemon_frees;
static bool trim_pending;

bool daemon_trim_pending(void)
{
	return trim_pending;
}

static void add_spans(unsigned int cls, unsigned int n, unsigned int most)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		fake_add_span(cls, 1 + test_random() % most);
}

static void set_up(void)
{
	fake_reset();
	CHECK(!mesher_open());
}

/* Passes until one finds nothing. */
static unsigned long mesh_all(void)
{
	unsigned long merged = 0;
	struct mesh_outcome out;

	do {
		out = mesher_pass(backend_current(), true);
		merged += out.merged;
	} while (out.merged);
	return merged;
}

static void check_counters(unsigned long merged)
{
	unsigned long refused = mesh_stats.refused_written +
				mesh_stats.refused_busy +
				mesh_stats.refused_absent +
				mesh_stats.refused_other;

	CHECK(mesh_stats.merged == merged);
	CHECK(mesh_stats.pairs == merged + refused);
	CHECK(mesh_stats.pss_saved == mesh_stats.pages_merged * PAGE_SIZE);
	CHECK(mesh_stats.pages_meshed_hwm == mesh_stats.pages_merged);
	CHECK(mesh_stats.longest_ns <= mesh_stats.mesh_ns);
}

static void sparse_spans_merge(void)
{
	unsigned long merged;

	set_up();
	add_spans(CLASS_256, 1000, 4);
	merged = mesh_all();
	CHECK(fake_check(CLASS_256) == 1000 - merged);
	/* 2.5 of 16 slots in use: 4 or more spans share each page in the end */
	CHECK(fake_check(CLASS_256) < 300);
	check_counters(merged);
}

static void many_windows(void)
{
	unsigned long merged;

	set_up();
	add_spans(CLASS_512, 18000, 3);
	merged = mesh_all();
	CHECK(fake_check(CLASS_512) == 18000 - merged);
	CHECK(merged > 9000);
}

static void many_classes(void)
{
	unsigned int cls;
	unsigned long merged, left = 0;

	set_up();
	for (cls = 1; cls <= NR_SMALL_CLASSES; cls++)
		add_spans(cls, 100, sizeclasses[cls].slots / 4 + 1);
	merged = mesh_all();
	for (cls = 1; cls <= NR_SMALL_CLASSES; cls++)
		left += fake_check(cls);
	CHECK(left == 100UL * NR_SMALL_CLASSES - merged);
	CHECK(merged > 0);
}

static void refusals_are_survived(void)
{
	unsigned long merged = 0;
	unsigned int i;

	set_up();
	fake_refusals = 50;
	add_spans(CLASS_256, 2000, 4);
	for (i = 0; i < 30; i++)
		merged += mesher_pass(backend_current(), true).merged;
	CHECK(fake_check(CLASS_256) == 2000 - merged);
	CHECK(merged > 1000);
	check_counters(merged);
}

/* A backend that never succeeds must not keep a pass from ending. */
static void nothing_but_refusals(void)
{
	set_up();
	fake_refusals = 100;
	add_spans(CLASS_256, 2000, 4);
	CHECK(mesher_pass(backend_current(), true).merged == 0);
	CHECK(fake_check(CLASS_256) == 2000);
	check_counters(0);
}

static void full_spans_stay_alone(void)
{
	unsigned int i;

	set_up();
	for (i = 0; i < 500; i++)
		fake_add_span(CLASS_256, 9);
	CHECK(mesh_all() == 0);
	CHECK(fake_check(CLASS_256) == 500);
}

/* A class in which nothing is found is looked at less and less. */
static void poor_classes_are_skipped(void)
{
	unsigned int i, looked = 0;

	set_up();
	for (i = 0; i < 100; i++)
		fake_add_span(CLASS_256, 9);
	for (i = 0; i < 320; i++)
		looked += mesher_pass(backend_current(), false).candidates > 0;
	CHECK(looked >= 10 && looked <= 20);
	CHECK(mesher_pass(backend_current(), true).candidates == 100);
}

/* How often the thread has slept. */
static long sleeps(void)
{
	struct rusage usage;

	CHECK(!getrusage(RUSAGE_THREAD, &usage));
	return usage.ru_nvcsw;
}

/* Sleeps of a pass over many spans. */
static long sleeps_of_pass(unsigned int cls)
{
	long before;

	add_spans(cls, 3000, 3);
	before = sleeps();
	CHECK(mesher_pass(backend_current(), true).merged > 1000);
	return sleeps() - before;
}

/* Many milliseconds of work: other threads may want the processor, or nobody does. */
static void gentle_passes_rest(void)
{
	uint64_t begun;

	set_up();
	CHECK(sleeps_of_pass(CLASS_512) < 10);
	mesher_set_gentle(true, 0);
	CHECK(sleeps_of_pass(CLASS_256) < 10);	/* nothing is freed */
	atomic_store(&daemon_frees, 1);
	mesh_stats.mesh_ns = 0;
	CHECK(!prctl(PR_SET_TIMERSLACK, 10000000UL));
	begun = os_now_ns();
	CHECK(sleeps_of_pass(CLASS_320) >= 20);
	/* work is counted, sleeps of 10 ms and more are not */
	CHECK(mesh_stats.mesh_ns > 0);
	CHECK(mesh_stats.mesh_ns < (os_now_ns() - begun) / 2);
	CHECK(mesh_stats.longest_ns <= mesh_stats.mesh_ns);
	trim_pending = true;
	CHECK(sleeps_of_pass(CLASS_336) < 10);
	trim_pending = false;
	CHECK(sleeps_of_pass(CLASS_448) >= 20);
}

static void *rest_for_long(void *unused)
{
	/* each sleep takes 5 s, unless somebody ends it */
	CHECK(!prctl(PR_SET_TIMERSLACK, 5000000000UL));
	mesher_set_gentle(true, 1);
	mesher_pass(backend_current(), true);
	return unused;
}

/* Who forks does not wait for the end of a sleep, nor is there another one. */
static void fork_ends_a_rest(void)
{
	uint64_t begun = os_now_ns();
	pthread_t t;

	set_up();
	add_spans(CLASS_512, 4000, 3);
	CHECK(!pthread_create(&t, NULL, rest_for_long, NULL));
	for (unsigned int i = 0; i < 20; i++) {
		usleep(2000);
		mesher_fork_prepare();
		fake_check(CLASS_512);
		mesher_fork_parent();
	}
	atomic_store(&mesher_quit, true);
	/* what it sleeps now it may sleep */
	mesher_fork_prepare();
	mesher_fork_parent();
	pthread_join(t, NULL);
	CHECK(os_now_ns() - begun < 4000000000UL);
}

static atomic_bool stop;

static void *mesh_for_ever(void *unused)
{
	for (unsigned int i = 0; !atomic_load(&stop); i++) {
		mesher_set_gentle(i % 2, 1);
		mesher_pass(backend_current(), true);
	}
	return unused;
}

/* Whoever is past mesher_fork_prepare() finds nothing isolated. */
static void fork_excludes_steps(void)
{
	pthread_t t;
	unsigned int i;

	set_up();
	fake_refusals = 90;
	fake_merge_us = 200;
	add_spans(CLASS_256, 5000, 4);
	CHECK(!pthread_create(&t, NULL, mesh_for_ever, NULL));
	for (i = 0; i < 200; i++) {
		mesher_fork_prepare();
		fake_check(CLASS_256);
		mesher_fork_parent();
		usleep(300);
	}
	atomic_store(&stop, true);
	pthread_join(t, NULL);
	fake_check(CLASS_256);
}

static void purge_gives_everything_back(void)
{
	unsigned int i;

	set_up();
	for (i = 0; i < 500; i++) {
		CHECK(fake_add_dirty(&heap_arena));
		CHECK(fake_add_dirty(&heap_anon));
	}
	CHECK(mesher_purge(&heap_arena, backend_current(), &loop_poll,
			   SIZE_MAX) == 500);
	CHECK(pageheap_dirty(&heap_arena) == 0);
	CHECK(pageheap_dirty(&heap_anon) == 500);
	CHECK(mesher_purge(&heap_anon, backend_current(), &loop_poll,
			   1) < 500);
	CHECK(mesh_stats.pages_purged ==
	      1000 - pageheap_dirty(&heap_anon));
}

static void refuse_all(struct loop_purge *p, unsigned int n, int advice)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		p[i].result = -advice;
}

static void purge_gives_up(void)
{
	const struct loop_ops refusing = { .purge = refuse_all };
	unsigned int i;

	set_up();
	for (i = 0; i < 500; i++)
		CHECK(fake_add_dirty(&heap_arena));
	CHECK(mesher_purge(&heap_arena, backend_current(), &refusing,
			   SIZE_MAX) == 0);
	CHECK(pageheap_dirty(&heap_arena) == 500);
}

static const struct test_case cases[] = {
	{ "sparse_spans_merge", sparse_spans_merge },
	{ "many_windows", many_windows },
	{ "many_classes", many_classes },
	{ "refusals_are_survived", refusals_are_survived },
	{ "nothing_but_refusals", nothing_but_refusals },
	{ "full_spans_stay_alone", full_spans_stay_alone },
	{ "poor_classes_are_skipped", poor_classes_are_skipped },
	{ "gentle_passes_rest", gentle_passes_rest },
	{ "fork_ends_a_rest", fork_ends_a_rest },
	{ "fork_excludes_steps", fork_excludes_steps },
	{ "purge_gives_everything_back", purge_gives_everything_back },
	{ "purge_gives_up", purge_gives_up },
};

TEST_MAIN(cases)
