/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * fork in a loop while other threads allocate: the child finds a whole heap, sees
 * the parent's contents, allocates, frees, starts threads and forks itself.
 * Handlers that other code registered, before and after us, allocate as well.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

#include "check.h"

#define FORKS		60
#define OBJECTS		500

static atomic_bool stop;
static char *objects[OBJECTS];
static void *from_handler;

static void handler(void)
{
	void *p = malloc(1000);

	CHECK(p);
	free(from_handler);
	from_handler = p;
	free(opaque(malloc(100000)));
	free(opaque(malloc(hide(3000000))));
}

static void *noise(void *arg)
{
	uint64_t rng = (uintptr_t)arg;
	void *p[100] = { 0 };

	while (!atomic_load(&stop)) {
		unsigned int i = next_random(&rng) % 100;

		free(p[i]);
		p[i] = malloc(next_random(&rng) % (i ? 2000 : 2000000));
	}
	for (int i = 0; i < 100; i++)
		free(p[i]);
	return NULL;
}

static void *allocate_much(void *arg)
{
	for (int i = 0; i < 2000; i++)
		free(opaque(malloc((size_t)i * 10)));
	return arg;
}

static void check_objects(void)
{
	for (unsigned int i = 0; i < OBJECTS; i++)
		CHECK(is_filled(objects[i], i * 13, i));
}

static void child(int depth)
{
	pthread_t t;

	check_objects();
	for (unsigned int i = 0; i < OBJECTS; i += 2)
		free(objects[i]);
	allocate_much(NULL);
	malloc_trim(0);
	CHECK(pthread_create(&t, NULL, allocate_much, NULL) == 0);
	pthread_join(t, NULL);
	if (depth) {
		pid_t pid = fork();
		int status;

		CHECK(pid >= 0);
		if (!pid) {
			free(opaque(malloc(100)));
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
	_exit(0);
}

/* Runs before the library has seen its first allocation, if anything does. */
__attribute__((constructor)) static void register_early(void)
{
	pthread_atfork(handler, handler, handler);
}

int main(void)
{
	pthread_t t[3];

	alarm(50);
	pthread_atfork(handler, handler, handler);
	for (unsigned int i = 0; i < OBJECTS; i++) {
		objects[i] = malloc(i * 13);
		fill(objects[i], i * 13, i);
	}
	for (uintptr_t i = 0; i < 3; i++)
		CHECK(pthread_create(&t[i], NULL, noise, (void *)(i + 1)) == 0);
	for (int i = 0; i < FORKS; i++) {
		pid_t pid = fork();
		int status;

		CHECK(pid >= 0);
		if (!pid)
			child(i % 4 == 0);
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(status == 0);
	}
	atomic_store(&stop, 1);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	check_objects();
	return 0;
}
