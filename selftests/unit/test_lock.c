/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* The mutex excludes; debug builds catch a wrong order. */
#include <pthread.h>

#include "lock.h"
#include "unit.h"

#define THREADS	4
#define ROUNDS	20000

static struct lock low = LOCK_INITIALIZER(LOCK_CLASS);
static struct lock low2 = LOCK_INITIALIZER(LOCK_CLASS);
static struct lock high = LOCK_INITIALIZER(LOCK_HEAP);
static unsigned long counter;

static void *count(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		lock_acquire(&low);
		counter++;
		lock_release(&low);
	}
	return arg;
}

TEST(excludes)
{
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, count, NULL) == 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(counter, THREADS * ROUNDS);
	CHECK_EQ(low.word, 0);
}

TEST(order)
{
	for (int i = 0; i < 3; i++) {
		lock_acquire(&low);
		lock_acquire(&high);
		lock_release(&high);
		lock_release(&low);
	}
	lock_acquire(&low);
	lock_acquire(&high);
	lock_release(&low);
	lock_release(&high);
}

static void wrong_order(void)
{
	lock_acquire(&high);
	lock_acquire(&low);
}

static void same_rank(void)
{
	lock_acquire(&low);
	lock_acquire(&low2);
}

static void not_held(void)
{
	lock_release(&low);
}

TEST(rank_violations_abort)
{
	char line[100];

	snprintf(line, sizeof(line), "lock of rank %u taken after one of a higher rank (%x)",
		 LOCK_CLASS, 1 << LOCK_HEAP);
	unit_must_abort(wrong_order, line);
	snprintf(line, sizeof(line), "two locks of rank %u taken at once", LOCK_CLASS);
	unit_must_abort(same_rank, line);
	snprintf(line, sizeof(line), "lock of rank %u released but not held", LOCK_CLASS);
	unit_must_abort(not_held, line);
}

/* Between prepare and parent or child the forking thread passes its own locks. */
TEST(fork_owner_passes)
{
	lock_fork_acquire(&low);
	lock_fork_acquire(&low2);
	lock_fork_enter();
	lock_acquire(&low);
	lock_release(&low);
	CHECK_EQ(low.word != 0, 1);
	lock_fork_release(&low);
	lock_fork_release(&low2);
	lock_fork_leave();
	lock_acquire(&low);
	CHECK_EQ(low.word, 1);
	lock_release(&low);
}

UNIT_MAIN(UNIT(excludes), UNIT(order), UNIT(rank_violations_abort), UNIT(fork_owner_passes))
