/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* A private descriptor table must be empty, and nobody else may notice. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "deny.h"
#include "fdtable.h"

static sem_t is_private, may_end;
static bool keep_stderr;
static int result, open_fds, first_new;

/* No allocation, no stdio: what the daemon may do. */
static void *isolate(void *unused)
{
	int fd;

	result = fdtable_make_private(keep_stderr);
	for (fd = 0; fd < 1024; fd++)
		open_fds += fcntl(fd, F_GETFD) >= 0;
	first_new = open("/dev/null", O_RDONLY);
	sem_post(&is_private);
	sem_wait(&may_end);
	return unused;
}

static pthread_t start(void)
{
	pthread_t t;

	sem_init(&is_private, 0, 0);
	sem_init(&may_end, 0, 0);
	CHECK(!pthread_create(&t, NULL, isolate, NULL));
	sem_wait(&is_private);
	CHECK(result == 0);
	return t;
}

static void finish(pthread_t t)
{
	sem_post(&may_end);
	pthread_join(t, NULL);
}

static void table_is_empty(void)
{
	pthread_t t = start();

	CHECK(open_fds == 0);
	CHECK(first_new == 0);
	CHECK(fcntl(0, F_GETFD) >= 0 && fcntl(1, F_GETFD) >= 0);
	finish(t);
}

static void stderr_stays(void)
{
	pthread_t t;

	keep_stderr = true;
	t = start();
	CHECK(open_fds == 1);
	CHECK(first_new == 0);
	finish(t);
}

/* The reader sees the end of the pipe though the thread is still there. */
static void pipe_ends(void)
{
	int p[2];
	char c;
	struct pollfd pfd;
	pthread_t t;

	CHECK(!pipe(p));
	t = start();
	close(p[1]);
	pfd.fd = p[0];
	pfd.events = POLLIN;
	CHECK(poll(&pfd, 1, 5000) == 1);
	CHECK(read(p[0], &c, 1) == 0);
	finish(t);
}

static bool locked_for_others(int fd)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		struct flock l = { .l_type = F_WRLCK };

		fcntl(fd, F_GETLK, &l);
		_exit(l.l_type != F_UNLCK);
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

/* Closing any descriptor of a file drops the record locks of its owner. */
static void record_locks_stay(void)
{
	struct flock l = { .l_type = F_WRLCK };
	char name[] = "/tmp/mesh-fdtable-XXXXXX";
	int fd = mkstemp(name);
	pthread_t t;

	CHECK(fd >= 0);
	unlink(name);
	CHECK(!fcntl(fd, F_SETLK, &l));
	CHECK(locked_for_others(fd));
	t = start();
	CHECK(locked_for_others(fd));
	finish(t);
	CHECK(locked_for_others(fd));
}

static void without_close_range(void)
{
	deny(SYS_close_range, ENOSYS);
	table_is_empty();
}

static void without_close_range_stderr_stays(void)
{
	deny(SYS_close_range, EPERM);
	stderr_stays();
}

static const struct test_case cases[] = {
	{ "table_is_empty", table_is_empty },
	{ "stderr_stays", stderr_stays },
	{ "pipe_ends", pipe_ends },
	{ "record_locks_stay", record_locks_stay },
	{ "without_close_range", without_close_range },
	{ "without_close_range_stderr_stays", without_close_range_stderr_stays },
};

TEST_MAIN(cases)
