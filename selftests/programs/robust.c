// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * 64 threads wait for robust mutexes in the heap, while the pages around them are merged; then
 * each gets its mutex. The C library's futexes for these are not private.
 *
 * The mutexes are the survivors of many objects, so that their pages would be worth
 * merging. Other objects are as sparse, so that something is merged. A thread that missed its
 * wake-up is given up after a while.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "asleep.h"
#include "bench.h"
#include "heap.h"

#define WAITERS		64
#define OBJECT		128
#define OTHER		96
#define PATIENCE	120

static atomic_int awake;

static void *waiter(void *arg)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE;
	if (!pthread_mutex_timedlock(arg, &until)) {
		awake++;
		pthread_mutex_unlock(arg);
	}
	return NULL;
}

static void make_robust(void **mutex)
{
	pthread_mutexattr_t attr;
	unsigned int i;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	for (i = 0; i < WAITERS; i++)
		if (pthread_mutex_init(mutex[i], &attr) || pthread_mutex_lock(mutex[i]))
			die("no robust mutex");
	pthread_mutexattr_destroy(&attr);
}

int main(void)
{
	static void *mutex[WAITERS], *other[WAITERS];
	pthread_t threads[WAITERS];
	unsigned int i;

	heap_sparse(mutex, WAITERS, OBJECT);
	heap_sparse(other, WAITERS, OTHER);
	make_robust(mutex);
	for (i = 0; i < WAITERS; i++)
		if (pthread_create(&threads[i], NULL, waiter, mutex[i]))
			die("cannot start a thread");
	await_asleep(WAITERS);
	for (i = 0; i < 3; i++)
		malloc_trim(0);
	for (i = 0; i < WAITERS; i++)
		pthread_mutex_unlock(mutex[i]);
	for (i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	printf("robust: %d of %d woken\n", awake, WAITERS);
	return awake != WAITERS;
}
