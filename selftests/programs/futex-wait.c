// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * 64 threads wait on words in the heap, by futexes that are not marked private, while
 * the pages under them are merged; then each is woken once.
 *
 * The words are the survivors of many small objects, so that their pages
 * are worth merging. Prints how many threads woke up; a thread that missed its
 * wake-up is given up after a while.
 */
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "asleep.h"
#include "heap.h"

#define WAITERS		64
#define OBJECT		128
#define PATIENCE	120

static atomic_int awake, late;

/* The program's own timeout is what tells a lost wake-up; nothing else takes as long. */
static void *waiter(void *arg)
{
	const struct timespec patience = { .tv_sec = PATIENCE };
	atomic_int *word = arg;

	if (syscall(SYS_futex, word, FUTEX_WAIT, 0, &patience, NULL, 0) == 0)
		awake++;
	else
		late++;
	return NULL;
}

int main(void)
{
	static void *words[WAITERS];
	pthread_t threads[WAITERS];
	unsigned int i;

	heap_sparse(words, WAITERS, OBJECT);
	for (i = 0; i < WAITERS; i++)
		if (pthread_create(&threads[i], NULL, waiter, words[i]))
			return 2;
	await_asleep(WAITERS);
	for (i = 0; i < 3; i++)
		malloc_trim(0);
	for (i = 0; i < WAITERS; i++)
		syscall(SYS_futex, words[i], FUTEX_WAKE, 1, NULL, NULL, 0);
	for (i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	printf("futex-wait: %d of %d woken, %d not\n", awake, WAITERS, late);
	return awake != WAITERS;
}
