/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Allocation at odd times: before and after main, in destructors of thread-local
 * data (ours have run by then, or not), in threads that never allocated, and in a
 * thread that signals interrupt all the time.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/time.h>

#include "check.h"

#define KEYS	40

static char *early;
static pthread_key_t keys[KEYS];
static atomic_int destroyed;
static volatile sig_atomic_t signals;

__attribute__((constructor)) static void before_main(void)
{
	early = malloc(1234);
	CHECK(early);
	fill(early, 1234, 9);
}

__attribute__((destructor)) static void after_main(void)
{
	CHECK(is_filled(early, 1234, 9));
	free(early);
	early = calloc(1, 50000);
	CHECK(early);
	free(early);
}

static void at_exit(void)
{
	free(opaque(malloc(100)));
}

/* Comes back until the last iteration that POSIX promises. */
static void destroy(void *arg)
{
	size_t *left = arg;
	void *p = malloc(*left * 100);

	CHECK(p);
	memset(p, 1, *left * 100);
	free(p);
	if (--*left) {
		size_t *again = malloc(sizeof(*again));

		*again = *left;
		pthread_setspecific(keys[atomic_fetch_add(&destroyed, 1) % KEYS], again);
	}
	free(arg);
}

static void *thread(void *arg)
{
	for (int i = 0; i < KEYS; i++) {
		size_t *left = malloc(sizeof(*left));

		*left = 4;
		pthread_setspecific(keys[i], left);
	}
	return arg;
}

/* Its first touch of the heap is a free, its last one in a destructor. */
static void *only_frees(void *arg)
{
	free(arg);
	return NULL;
}

static void count(int sig)
{
	(void)sig;
	signals = signals + 1;
}

static void check_signals(void)
{
	struct sigaction sa = { .sa_handler = count };
	struct itimerval every = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
	char *p[64] = { 0 };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	for (unsigned int i = 0; signals < 200; i++) {
		free(p[i % 64]);
		p[i % 64] = malloc(1 + i % 5000 + i % 64 * 1000);
		CHECK(p[i % 64]);
		p[i % 64][0] = 1;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	for (int i = 0; i < 64; i++)
		free(p[i]);
}

static void *main_is_gone(void *arg)
{
	struct timespec ts = { 0, 20000000 };

	nanosleep(&ts, NULL);
	for (int i = 0; i < 1000; i++)
		free(opaque(malloc((size_t)i)));
	exit(arg != NULL);
}

int main(void)
{
	pthread_t t;

	atexit(at_exit);
	for (int i = 0; i < KEYS; i++)
		CHECK(pthread_key_create(&keys[i], destroy) == 0);
	for (int i = 0; i < 50; i++) {
		CHECK(pthread_create(&t, NULL, thread, NULL) == 0);
		pthread_join(t, NULL);
		CHECK(pthread_create(&t, NULL, only_frees, malloc(77)) == 0);
		pthread_join(t, NULL);
	}
	CHECK(destroyed > 0);
	check_signals();
	CHECK(pthread_create(&t, NULL, main_is_gone, NULL) == 0);
	pthread_exit(NULL);
}
