// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fork while one thread reads lines, which allocates under the lock of a stream, and
 * another flushes all streams, which takes the lock of their list and then theirs. fork
 * takes the list's lock as well: the order in which it takes ours decides.
 *
 * Also a lock of the program's own that its fork handler takes, and under which another
 * thread allocates.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define FORKS		300
#define LINE		200000

static pthread_mutex_t program_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool stop;
static char path[] = "/tmp/mesh-fork-streams-XXXXXX";

static void take_lock(void)
{
	pthread_mutex_lock(&program_lock);
}

static void release_lock(void)
{
	pthread_mutex_unlock(&program_lock);
}

/* Before main(), as a library would, and before anything was allocated by us. */
__attribute__((constructor)) static void register_handlers(void)
{
	pthread_atfork(take_lock, release_lock, release_lock);
}

static void *read_lines(void *arg)
{
	while (!stop) {
		FILE *f = fopen(path, "r");
		char *line = NULL;
		size_t n = 0;

		while (getline(&line, &n, f) > 0) {
			free(line);
			line = NULL;
			n = 0;
		}
		free(line);
		fclose(f);
	}
	return arg;
}

static void *flush_all(void *arg)
{
	while (!stop)
		fflush(NULL);
	return arg;
}

static void *allocate_locked(void *arg)
{
	size_t size = 1;

	while (!stop) {
		pthread_mutex_lock(&program_lock);
		for (int i = 0; i < 100; i++) {
			free(malloc(size));
			size = size * 5 % 60000 + 1;
		}
		pthread_mutex_unlock(&program_lock);
	}
	return arg;
}

static void write_file(void)
{
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");

	CHECK(f);
	for (int i = 0; i < 10; i++) {
		for (int j = 0; j < LINE; j++)
			fputc('a' + i, f);
		fputc('\n', f);
	}
	CHECK(fclose(f) == 0);
}

/* A deadlock is ended by the alarm's default action. */
int main(void)
{
	void *(*const roles[])(void *) = { read_lines, read_lines, flush_all, allocate_locked };
	pthread_t threads[4];

	write_file();
	alarm(50);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, roles[i], NULL) == 0);
	for (int i = 0; i < FORKS; i++) {
		int status;
		pid_t pid = fork();

		CHECK(pid >= 0);
		if (pid == 0) {
			free(malloc(100));
			fflush(NULL);
			_exit(0);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(status == 0);
	}
	stop = true;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	unlink(path);
	return 0;
}
