/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * check.h: a test program is a table of cases; ctest runs one per process, and so does
 * the program itself with --tap.
 *
 * Exit status: 0 passed, 1 failed, 77 skipped, with the reason on stdout.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(cond)							\
	do {								\
		if (!(cond)) {						\
			printf("%s:%d: not true: %s\n", __FILE__,	\
			       __LINE__, #cond);			\
			fflush(stdout);					\
			_exit(1);					\
		}							\
	} while (0)

#define SKIP(...)							\
	do {								\
		printf("SKIP " __VA_ARGS__);				\
		printf("\n");						\
		fflush(stdout);						\
		_exit(77);						\
	} while (0)

struct test_case {
	const char *name;
	void (*run)(void);
};

/* The same numbers in every run. */
static inline uint64_t test_random(void)
{
	static uint64_t x = 88172645463325252;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 0x2545f4914f6cdd1d >> 16;
}

static inline int run_forked(const struct test_case *c)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		alarm(300);
		c->run();
		exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Each case in a process of its own. */
static inline int run_tap(const struct test_case *cases, unsigned int n)
{
	unsigned int i, failed = 0;

	printf("1..%u\n", n);
	for (i = 0; i < n; i++) {
		int status;

		fflush(stdout);
		status = run_forked(&cases[i]);
		printf("%sok %u %s%s\n", status && status != 77 ? "not " : "", i + 1,
		       cases[i].name, status == 77 ? " # SKIP" : "");
		failed += status && status != 77;
	}
	return failed != 0;
}

static inline int run_case(const struct test_case *cases, unsigned int n,
			   const char *name)
{
	unsigned int i;

	if (name && !strcmp(name, "--tap"))
		return run_tap(cases, n);
	for (i = 0; i < n; i++)
		if (name && !strcmp(cases[i].name, name)) {
			cases[i].run();
			return 0;
		}
	printf("no such case: %s\n", name ? name : "(none given)");
	return 1;
}

#define TEST_MAIN(cases)						\
	int main(int argc, char **argv)					\
	{								\
		return run_case(cases, sizeof(cases) / sizeof(*cases),	\
				argc > 1 ? argv[1] : NULL);		\
	}

#endif /* CHECK_H */
