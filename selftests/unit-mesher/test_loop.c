/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The contract of loop.h, for the loop that TEST_LOOP names. Where io_uring is
 * refused, its cases are skipped.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "loop.h"
#include "urgent.h"

#define MSEC	1000000ULL

static const struct loop_ops *loop;
static int kick_fd, pressure_fd = -1;

static void open_loop(void)
{
	const char *name = getenv("TEST_LOOP");
	int ret;

	loop = name && !strcmp(name, "uring") ? &loop_uring : &loop_poll;
	kick_fd = eventfd(0, EFD_NONBLOCK);
	CHECK(kick_fd >= 0);
	ret = loop->open(kick_fd, pressure_fd);
	if (ret)
		SKIP("%s: %s", loop->name, strerror(-ret));
}

static void kick(void)
{
	uint64_t one = 1;

	CHECK(write(kick_fd, &one, sizeof(one)) == sizeof(one));
}

static void drain(void)
{
	uint64_t n;

	CHECK(read(kick_fd, &n, sizeof(n)) == sizeof(n));
}

static void timer_fires(void)
{
	unsigned int i;

	open_loop();
	for (i = 0; i < 20; i++) {
		uint64_t begun = os_now_ns(), ns;

		CHECK(loop->wait(20 * MSEC, true) == LOOP_TIMER);
		ns = os_now_ns() - begun;
		CHECK(ns >= 20 * MSEC);
		CHECK(ns < 5000 * MSEC);
	}
	loop->close();
}

static void *kick_later(void *unused)
{
	usleep(50000);
	kick();
	return unused;
}

static void kick_wakes(void)
{
	unsigned int i;

	open_loop();
	for (i = 0; i < 5; i++) {
		pthread_t t;

		CHECK(!pthread_create(&t, NULL, kick_later, NULL));
		CHECK(loop->wait(LOOP_FOREVER, true) == LOOP_KICK);
		drain();
		CHECK(loop->wait(10 * MSEC, true) == LOOP_TIMER);
		pthread_join(t, NULL);
	}
	loop->close();
}

static void kick_before_wait(void)
{
	open_loop();
	kick();
	CHECK(loop->wait(10000 * MSEC, true) & LOOP_KICK);
	drain();
	loop->close();
}

#define PAGES	500

/* Every second page, in one batch larger than any ring; one range is bad. */
static void purges_are_done(void)
{
	static struct loop_purge p[PAGES / 2];
	char *mem = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int i;

	open_loop();
	CHECK(mem != MAP_FAILED);
	memset(mem, 0x5a, PAGES * 4096);
	for (i = 0; i < PAGES / 2; i++) {
		p[i].addr = mem + i * 2 * 4096;
		p[i].len = 4096;
		p[i].result = 12345;
	}
	p[100].addr = mem + 100 * 2 * 4096 + 1;
	loop->purge(p, PAGES / 2, MADV_DONTNEED);
	for (i = 0; i < PAGES / 2; i++) {
		CHECK(p[i].result == (i == 100 ? -EINVAL : 0));
		CHECK(mem[i * 2 * 4096] == (i == 100 ? 0x5a : 0));
		CHECK(mem[i * 2 * 4096 + 4096] == 0x5a);
	}
	loop->close();
}

/* A kick that arrives among the completions of purges is not forgotten. */
static void kick_during_purge(void)
{
	char *mem = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct loop_purge p = { .addr = mem, .len = 4096 };

	open_loop();
	CHECK(loop->wait(MSEC, true) == LOOP_TIMER);
	kick();
	loop->purge(&p, 1, MADV_DONTNEED);
	CHECK(p.result == 0);
	CHECK(loop->wait(10000 * MSEC, true) & LOOP_KICK);
	drain();
	CHECK(!(loop->wait(10 * MSEC, true) & LOOP_KICK));
	loop->close();
}

static void empty_batch(void)
{
	open_loop();
	loop->purge(NULL, 0, MADV_DONTNEED);
	loop->close();
}

/* As after a fork: opened anew, without a close. */
static void opened_twice(void)
{
	open_loop();
	CHECK(loop->wait(MSEC, true) == LOOP_TIMER);
	CHECK(!loop->open(kick_fd, pressure_fd));
	kick();
	CHECK(loop->wait(10000 * MSEC, true) & LOOP_KICK);
	loop->close();
}

static void pressure_wakes(void)
{
	int far;

	pressure_fd = urgent_open();
	far = urgent_other_end();
	open_loop();
	CHECK(loop->wait(10 * MSEC, true) == LOOP_TIMER);
	urgent_send(far);
	CHECK(loop->wait(LOOP_FOREVER, true) == LOOP_PRESSURE);
	kick();
	CHECK(loop->wait(LOOP_FOREVER, true) & LOOP_KICK);
	drain();
	urgent_read(pressure_fd);
	/* one more poll may have been in flight */
	loop->wait(10 * MSEC, true);
	CHECK(loop->wait(10 * MSEC, true) == LOOP_TIMER);
	loop->close();
}

/* What happens while nobody wants to know is reported once somebody does. */
static void pressure_is_kept(void)
{
	int far, i;

	pressure_fd = urgent_open();
	far = urgent_other_end();
	open_loop();
	CHECK(loop->wait(10 * MSEC, true) == LOOP_TIMER);
	urgent_send(far);
	for (i = 0; i < 5; i++)
		CHECK(!(loop->wait(10 * MSEC, false) & LOOP_PRESSURE));
	CHECK(loop->wait(10 * MSEC, false) == LOOP_TIMER);
	CHECK(loop->wait(LOOP_FOREVER, true) == LOOP_PRESSURE);
	loop->close();
}

static void pressure_unwatched(void)
{
	pressure_fd = urgent_open();
	open_loop();
	urgent_hang_up(urgent_other_end());
	CHECK(loop->wait(LOOP_FOREVER, true) == LOOP_UNWATCHED);
	loop->close();
}

static const struct test_case cases[] = {
	{ "timer_fires", timer_fires },
	{ "kick_wakes", kick_wakes },
	{ "kick_before_wait", kick_before_wait },
	{ "purges_are_done", purges_are_done },
	{ "kick_during_purge", kick_during_purge },
	{ "empty_batch", empty_batch },
	{ "opened_twice", opened_twice },
	{ "pressure_wakes", pressure_wakes },
	{ "pressure_is_kept", pressure_is_kept },
	{ "pressure_unwatched", pressure_unwatched },
};

TEST_MAIN(cases)
