/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * misuse CASE - commit one mistake, after printing the one line that the library
 * must write to standard error before it aborts.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define EXPECT(...) do { \
	printf("libmesh: " __VA_ARGS__); \
	putchar('\n'); \
	fflush(stdout); \
} while (0)

/* Everything this thread has in hand goes back when it ends. */
static void *free_it(void *p)
{
	free(p);
	return NULL;
}

static void free_in_thread(void *p)
{
	pthread_t t;

	CHECK(pthread_create(&t, NULL, free_it, p) == 0);
	pthread_join(t, NULL);
}

static void double_free(void)
{
	char *p = malloc(100);

	EXPECT("double free of %p, an object of 112 bytes", (void *)p);
	free(p);
	free(p);
}

static void double_free_apart(void)
{
	char *p = malloc(100), *q = malloc(100);

	CHECK(q);
	EXPECT("double free of %p, an object of 112 bytes", (void *)p);
	free_in_thread(p);
	free_in_thread(p);
}

/* Found when the meshing thread takes back what a thread that sleeps has in hand. */
static void double_free_asleep(void)
{
	char *p = malloc(100), *q = malloc(100), *r = malloc(100);

	for (unsigned int i = 0; i < 20000; i++)
		CHECK(malloc(500));
	EXPECT("double free of %p, an object of 112 bytes", (void *)p);
	free(p);
	free(q);
	free(p);
	free(r);
	sleep(40);
}

static void allocate(int number)
{
	(void)number;
	free(opaque(malloc(200)));
}

/* The program's handler runs in that thread then. */
static void double_free_asleep_handled(void)
{
	signal(SIGABRT, allocate);
	double_free_asleep();
}

static void report(int number)
{
	pid_t pid = fork();

	(void)number;
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
}

/* A crash reporter's handler. */
static void double_free_asleep_reported(void)
{
	signal(SIGABRT, report);
	double_free_asleep();
}

static void double_free_medium(void)
{
	char *p = malloc(10000);

	EXPECT("double free of %p, an object of 10240 bytes", (void *)p);
	free(p);
	free(p);
}

static void double_free_large(void)
{
	char *p = malloc(100000);

	EXPECT("double free of %p: its page is free", (void *)p);
	free(p);
	free(p);
}

static void double_free_huge(void)
{
	char *p = malloc(50000000);

	EXPECT("free of %p: not an address that malloc has returned", (void *)p);
	free(p);
	free(p);
}

static void wild_stack(void)
{
	char buf[64];
	char *p = opaque(buf + 16);

	EXPECT("free of %p: not an address that malloc has returned", (void *)p);
	free(p);
}

static void wild_low(void)
{
	EXPECT("free of 0x1230: not an address that malloc has returned");
	free(opaque((void *)0x1230));
}

static void interior_misaligned(void)
{
	char *p = (char *)malloc(100) + 1;

	EXPECT("free of %p: not the start of an object of 112 bytes", (void *)p);
	free(opaque(p));
}

static void interior(void)
{
	char *p = (char *)malloc(100) + 16;

	EXPECT("free of %p: not the start of an object of 112 bytes", (void *)p);
	free_in_thread(opaque(p));
}

static void interior_large(void)
{
	char *p = (char *)malloc(100000) + 4096;

	EXPECT("free of %p: no object starts there", (void *)p);
	free(opaque(p));
}

static void interior_huge(void)
{
	char *p = (char *)malloc(50000000) + 4096;

	EXPECT("free of %p: not an address that malloc has returned", (void *)p);
	free(opaque(p));
}

static void realloc_wild(void)
{
	char buf[64];
	char *p = opaque(buf + 16);

	EXPECT("%p is not an address that malloc has returned", (void *)p);
	free(realloc(p, 100));
}

static void realloc_freed(void)
{
	char *p = malloc(100000);

	EXPECT("use after free of %p: its page is free", (void *)p);
	free(p);
	free(realloc(p, 200000));
}

static void realloc_interior(void)
{
	char *p = (char *)malloc(100000) + 4096;

	EXPECT("%p is not an address that malloc has returned", (void *)p);
	free(realloc(opaque(p), 200000));
}

/* With MESH_CHECK=1 */

static void check_double_free(void)
{
	char *p = malloc(100), *q = malloc(100);

	EXPECT("double free of %p, an object of 100 bytes", (void *)p);
	free(p);
	free(q);
	free(p);
	_exit(0);
}

static void check_interior(void)
{
	char *p = (char *)malloc(100) + 16;

	EXPECT("free of %p: not the start of an object of 112 bytes", (void *)p);
	free(opaque(p));
	_exit(0);
}

static void check_overflow(void)
{
	char *p = malloc(97);

	EXPECT("overflow of %p, an object of 97 bytes: byte 97 was written to", (void *)p);
	p[97] = 0;
	free(p);
	_exit(0);
}

static void check_overflow_tight(void)
{
	char *p = malloc(104);

	EXPECT("overflow of %p, in a slot of 112 bytes: the last ones were written to", (void *)p);
	memset(p + 104, 0, 8);
	free(p);
	_exit(0);
}

static void check_overflow_aligned(void)
{
	char *p = aligned_alloc(64, 1000);

	EXPECT("overflow of %p, an object of 1000 bytes: byte 1001 was written to", (void *)p);
	p[1001] = 0;
	free(realloc(p, 2000));
	_exit(0);
}

/* Found at exit. */
static void check_write_after_free(void)
{
	char *p = malloc(100);

	EXPECT("use after free of %p, an object of 100 bytes: byte 10 was written to", (void *)p);
	free(p);
	p[10] = 0;
}

/* Found when the slot is wanted again. */
static void check_write_after_free_early(void)
{
	char *p = malloc(5000);

	EXPECT("use after free of %p, an object of 5000 bytes: byte 4999 was written to",
	       (void *)p);
	free(p);
	p[4999] = 0;
	for (int i = 0; i < 2000; i++)
		free(opaque(malloc(16)));
	_exit(0);
}

static void check_many_bytes_freed(void)
{
	char *p = malloc(30000);

	EXPECT("use after free of %p, an object of 30000 bytes: byte 0 was written to", (void *)p);
	free(p);
	p[0] = 0;
	for (int i = 0; i < 40; i++)
		free(opaque(malloc(30000)));
	_exit(0);
}

static void check_size_of_freed(void)
{
	char *p = malloc(100);

	EXPECT("use after free of %p, an object of 100 bytes: its size is wanted", (void *)p);
	free(p);
	p = realloc(p, 200);
	_exit(0);
}

static const struct {
	const char *name;
	void (*fn)(void);
} cases[] = {
#define CASE(fn) { #fn, fn }
	CASE(double_free), CASE(double_free_apart), CASE(double_free_asleep),
	CASE(double_free_asleep_handled), CASE(double_free_asleep_reported),
	CASE(double_free_medium),
	CASE(double_free_large), CASE(double_free_huge), CASE(wild_stack), CASE(wild_low),
	CASE(interior_misaligned), CASE(interior), CASE(interior_large),
	CASE(interior_huge), CASE(realloc_wild), CASE(realloc_freed), CASE(realloc_interior),
	CASE(check_double_free), CASE(check_interior), CASE(check_overflow),
	CASE(check_overflow_tight), CASE(check_overflow_aligned), CASE(check_write_after_free),
	CASE(check_write_after_free_early), CASE(check_many_bytes_freed),
	CASE(check_size_of_freed),
};

int main(int argc, char **argv)
{
	struct rlimit no_core = { 0, 0 };

	setrlimit(RLIMIT_CORE, &no_core);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (argc > 1 && !strcmp(argv[1], cases[i].name)) {
			cases[i].fn();
			return 0;
		}
	fprintf(stderr, "misuse: no such case\n");
	return 2;
}
