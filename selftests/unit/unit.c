/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* The harness: a process for each test, captured standard error for death tests. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "central.h"
#include "pageheap.h"
#include "region.h"
#include "sizeclass.h"
#include "unit.h"

static char captured[4096];

static int wait_for(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid ? status : -1;
}

int unit_main(const struct unit_test *tests, unsigned int nr)
{
	int bad = 0;

	setvbuf(stdout, NULL, _IONBF, 0);
	printf("1..%u\n", nr);
	for (unsigned int i = 0; i < nr; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			alarm(50);
			tests[i].fn();
			exit(0);
		}
		status = wait_for(pid);
		bad += status != 0;
		printf("%s %u %s\n", status ? "not ok" : "ok", i + 1, tests[i].name);
	}
	return bad ? 1 : 0;
}

/* Run @fn with standard error going to captured[]; its wait status. */
static int capture(void (*fn)(void))
{
	size_t len = 0;
	ssize_t n;
	int fd[2];
	pid_t pid;

	CHECK(pipe(fd) == 0);
	pid = fork();
	if (pid == 0) {
		dup2(fd[1], 2);
		close(fd[0]);
		fn();
		_exit(0);
	}
	close(fd[1]);
	while ((n = read(fd[0], captured + len, sizeof(captured) - 1 - len)) > 0)
		len += (size_t)n;
	captured[len] = '\0';
	close(fd[0]);
	return wait_for(pid);
}

void unit_must_abort(void (*fn)(void), const char *line)
{
	char expected[512];
	int status = capture(fn);

	snprintf(expected, sizeof(expected), "libmesh: %s\n", line);
	if (strcmp(captured, expected)) {
		printf("expected: %sgot: %s", expected, captured);
		exit(1);
	}
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

const char *unit_stderr(void (*fn)(void))
{
	CHECK_EQ(capture(fn), 0);
	return captured;
}

void unit_heap(void)
{
	CHECK(region_init());
	heaps_init();
	sizeclass_init();
	central_init();
}
