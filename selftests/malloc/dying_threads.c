/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Threads leave no caches behind: those that never allocate, in whose last moments libc frees
 * what belonged to threads whose stacks make room, and those that end by a system call. If
 * that was the main thread, the process ends, also if it may make no other system call.
 */
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define THREADS		300
#define AT_ONCE		4

/* One is more than libc keeps for threads to come. */
#define STACK		((size_t)64 << 20)

/* Of which there may be some at any time. */
#define ENOUGH		(THREADS / 2)

static atomic_int running;

static void *idler(void *unused)
{
	usleep(1000);
	atomic_fetch_sub(&running, 1);
	return unused;
}

static void *leaver(void *unused)
{
	free(opaque(malloc(100)));
	atomic_fetch_sub(&running, 1);
	syscall(SYS_exit, 0);
	return unused;
}

/* Nobody waits for them: they give back what is theirs themselves. */
static void run_threads(void *(*fn)(void *), size_t stack)
{
	pthread_attr_t attr;
	pthread_t t;

	CHECK(!pthread_attr_init(&attr));
	CHECK(!pthread_attr_setstacksize(&attr, stack));
	CHECK(!pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED));
	for (unsigned int i = 0; i < THREADS; i++) {
		while (atomic_load(&running) >= AT_ONCE)
			usleep(100);
		atomic_fetch_add(&running, 1);
		CHECK(!pthread_create(&t, &attr, fn, NULL));
	}
	while (atomic_load(&running))
		usleep(100);
	usleep(50000);
	pthread_attr_destroy(&attr);
}

/* What malloc_stats() says of them. */
static unsigned int caches(void)
{
	char text[256] = "";
	unsigned int n = 0;
	int saved = dup(2), fd = memfd_create("stats", 0);

	CHECK(saved >= 0 && fd >= 0 && dup2(fd, 2) == 2);
	malloc_stats();
	CHECK(dup2(saved, 2) == 2);
	CHECK(pread(fd, text, sizeof(text) - 1, 0) > 0);
	CHECK(sscanf(text, "libmesh: statistics of version %*s %u thread caches", &n) == 1);
	close(saved);
	close(fd);
	return n;
}

static void *objects[10000];

/*
 * After a trim the library has a thread of its own, which sleeps a second later: until much is
 * freed, or the main thread ends. The system calls for that may be forbidden.
 */
static void leave_alone(bool strictly)
{
	for (unsigned int i = 0; i < 10000; i++)
		objects[i] = malloc(1000);
	malloc_trim(0);
	if (strictly) {
		sleep(2);
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	}
	for (unsigned int i = 0; i < 10000; i++)
		free(objects[i]);
	syscall(SYS_exit, 7);
}

static void check_end(bool strictly)
{
	pid_t pid = fork();
	int status, i;

	if (!pid)
		leave_alone(strictly);
	for (i = 0; i < 1000 && !waitpid(pid, &status, WNOHANG); i++)
		usleep(10000);
	if (i == 1000)
		kill(pid, SIGKILL);
	CHECK(i < 1000);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* A child would get a thread of the library's a second after the fork; its malloc looks whether. */
static void check_child(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		for (unsigned int i = 0; i < 100; i++)
			free(malloc(100 + 16 * i));
		syscall(SYS_exit, 7);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(void)
{
	unsigned int idlers, leavers;

	run_threads(idler, STACK);
	idlers = caches();
	printf("caches after threads that never allocate: %u\n", idlers);
	run_threads(leaver, 1 << 20);
	leavers = caches();
	printf("and after threads that leave: %u\n", leavers);
	fflush(stdout);
	CHECK(idlers <= 2);
	CHECK(leavers < ENOUGH);
	check_end(false);
	check_end(true);
	malloc_trim(0);
	check_child();
	return 0;
}
