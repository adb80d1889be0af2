/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * life BACKEND EACH HOW...: a short life of a program, again and again. In each one another
 * system call of the library fails: the n-th one, for n = 1 and on until there is none left to
 * fail, or only for each EACH-th n. HOW is once, burst, ever, filter, hole or lost, see fail.h.
 *
 * A life allocates objects of all kinds, has the sparse ones merged, writes to them, forks and
 * starts threads. Each malloc does what it shall or says ENOMEM, and works when it is tried
 * again; every object is as it was, what calloc gives is zero, and in the end nothing is left.
 * What comes of it is printed as TAP.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../malloc/check.h"
#include "fail.h"
#include "mesh.h"

#define KIB		((size_t)1024)
#define MIB		(1024 * KIB)

#define SMALL		1200	/* objects in a heap */
#define KEPT		8	/* of so many small ones one stays */

/* What may be in use in the end that was not in the beginning: of the meshing thread. */
#define SLACK		(4 * KIB)

struct object {
	unsigned char *p;
	size_t size;
	unsigned int seed;
};

static struct object small[SMALL];
static struct object large[6];

/* Of one life, for who started it. */
static struct {
	long fired;
	unsigned long counted;
	size_t merges;
	size_t views;
	size_t space;
} *report;

static size_t value_of(const char *name)
{
	size_t value = 0, len = sizeof(value);

	CHECK(!mesh_mallctl(name, &value, &len, NULL, 0));
	return value;
}

/* There has to be a reason, and once it is gone there is memory. */
static void memory_was_out(void)
{
	CHECK(errno == ENOMEM);
	CHECK(fail_fired() >= 0);
	fail_disarm();
}

static void *get(size_t size)
{
	void *p = opaque(malloc(size));

	if (p)
		return p;
	memory_was_out();
	p = opaque(malloc(size));
	CHECK(p);
	return p;
}

static void *get_aligned(size_t align, size_t size)
{
	void *p = opaque(aligned_alloc(align, size));

	if (!p) {
		memory_was_out();
		p = opaque(aligned_alloc(align, size));
	}
	CHECK(p && !((uintptr_t)p % align));
	return p;
}

static void get_zeros(size_t size)
{
	unsigned char *p = opaque(calloc(1, size));

	if (!p) {
		memory_was_out();
		p = opaque(calloc(1, size));
	}
	CHECK(p && !p[0] && !memcmp(p, p + 1, size - 1));
	fill(p, size, 1);
	free(p);
}

static void make(struct object *o, void *p, size_t size, unsigned int seed)
{
	*o = (struct object){ .p = p, .size = size, .seed = seed };
	fill(p, size, seed);
}

static void look_at(const struct object *o)
{
	CHECK(!o->p || is_filled(o->p, o->size, o->seed));
}

static void rewrite(struct object *o)
{
	if (o->p)
		make(o, o->p, o->size, o->seed + 1);
}

static void drop(struct object *o)
{
	int before = errno = 12345;

	look_at(o);
	free(o->p);
	CHECK(errno == before);
	o->p = NULL;
}

/* Have @size bytes of room for an object. */
static void move(struct object *o, size_t size)
{
	unsigned char *p = opaque(realloc(o->p, size));

	if (!p) {
		memory_was_out();
		look_at(o);
		p = opaque(realloc(o->p, size));
	}
	CHECK(p);
	o->p = p;
	o->size = size < o->size ? size : o->size;
	look_at(o);
}

static void resize(struct object *o, size_t size)
{
	move(o, size);
	make(o, o->p, size, o->seed);
}

static void look_at_all(void)
{
	for (unsigned int i = 0; i < SMALL; i++)
		look_at(&small[i]);
	for (unsigned int i = 0; i < sizeof(large) / sizeof(*large); i++)
		look_at(&large[i]);
}

static size_t small_size(unsigned int i)
{
	static const size_t sizes[] = { 240, 1000, 3000 };

	return sizes[i * 3 / SMALL] - i % 9;
}

static void make_small(unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (!small[i].p)
			make(&small[i], get(small_size(i)), small_size(i), i);
}

/* Sparse spans are left. */
static void thin_out(unsigned int kept)
{
	for (unsigned int i = 0; i < SMALL; i++)
		if (i % KEPT != kept)
			drop(&small[i]);
}

static void make_large(void)
{
	static const struct { size_t align, size; } kinds[] = {
		{ 0, 20 * KIB }, { 0, 100 * KIB }, { 0, 400 * KIB }, { 64 * KIB, 64 * KIB },
		{ 0, 33 * MIB }, { 2 * MIB, 10 * KIB },
	};

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		size_t size = kinds[i].size;

		make(&large[i], kinds[i].align ? get_aligned(kinds[i].align, size) : get(size),
		     size < MIB ? size : 10 * KIB, 1000 + i);
	}
}

static void resize_large(void)
{
	resize(&large[0], 50 * KIB);
	resize(&large[1], 1000 * KIB);
	resize(&large[1], 200 * KIB);
	resize(&large[2], 450 * KIB);
	resize(&large[3], 40 * KIB);
	/* A mapping that becomes shorter and longer, and runs, of which one is not the last one. */
	move(&large[4], 20 * MIB);
	move(&large[4], 50 * MIB);
	move(&large[2], 40 * MIB);
	move(&large[1], 40 * MIB);
}

static void *in_a_thread(void *arg)
{
	struct object own[20];

	for (unsigned int i = 0; i < 20; i++)
		make(&own[i], get(30 * i + 1), 30 * i + 1, i);
	for (unsigned int i = 0; i < SMALL; i += 2)
		drop(&small[i]);
	for (unsigned int i = 0; i < 20; i++)
		drop(&own[i]);
	return arg;
}

static void run_thread(void)
{
	pthread_t t;

	CHECK(!pthread_create(&t, NULL, in_a_thread, NULL));
	CHECK(!pthread_join(t, NULL));
}

static void be_child(const int tell[2])
{
	char c;

	alarm(60);
	close(tell[1]);
	CHECK(read(tell[0], &c, 1) == 1);
	look_at_all();
	for (unsigned int i = 0; i < SMALL; i++)
		rewrite(&small[i]);
	make_small(SMALL / 4);
	malloc_trim(0);
	get_zeros(100 * KIB);
	look_at_all();
	_exit(0);
}

static void await(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(!status);
}

/* What was merged can be merged with more, but the child sees it as it was. */
static void have_child(void)
{
	int tell[2];
	pid_t pid;

	CHECK(!pipe(tell));
	pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		be_child(tell);
	for (unsigned int i = 0; i < SMALL; i += 2 * KEPT)
		drop(&small[i]);
	malloc_trim(0);
	look_at_all();
	CHECK(write(tell[1], "", 1) == 1);
	close(tell[0]);
	close(tell[1]);
	for (unsigned int i = 0; i < SMALL; i++)
		rewrite(&small[i]);
	make_small(SMALL);
	thin_out(1);
	malloc_trim(0);
	look_at_all();
	await(pid);
}

static void live(void)
{
	make_small(SMALL);
	make_large();
	thin_out(0);
	malloc_trim(0);
	look_at_all();
	for (unsigned int i = 0; i < SMALL / 2; i++)
		rewrite(&small[i]);
	resize_large();
	malloc_trim(0);
	look_at_all();
	have_child();
	run_thread();
	get_zeros(16 * KIB);
	get_zeros(400 * KIB);
	make_small(SMALL);
	look_at_all();
}

static void die(void)
{
	for (unsigned int i = 0; i < SMALL; i++)
		drop(&small[i]);
	for (unsigned int i = 0; i < sizeof(large) / sizeof(*large); i++)
		drop(&large[i]);
	malloc_trim(0);
}

/* Of merged spans, in a file that shows mappings. */
static void count_views(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[4096];
	unsigned long from, to;

	CHECK(f);
	report->views = report->space = 0;
	while (fgets(line, sizeof(line), f)) {
		report->views += strstr(line, "/memfd:mesh ") != NULL;
		if (sscanf(line, "%lx-%lx", &from, &to) == 2)
			report->space += to - from;
	}
	fclose(f);
}

static void a_life(enum fail_how how, unsigned long nth)
{
	size_t before;

	alarm(60);
	run_thread();
	before = value_of("stats.allocated");
	fail_arm(how, nth);
	live();
	report->merges = value_of("mesh.merges");
	report->fired = fail_fired();
	report->counted = fail_counted();
	die();
	fail_disarm();
	malloc_trim(0);
	CHECK(value_of("stats.allocated") <= before + SLACK);
	count_views();
	_exit(0);
}

/* After a life in which nothing has failed. */
static size_t space_left;

/* No mapping is forgotten, but for one that could not be removed. */
static bool is_tidy(enum fail_how how)
{
	return how != FAIL_ONCE || report->fired < 0 || report->fired == SYS_munmap ||
	       report->space <= space_left + 16 * MIB;
}

/* In a process of its own; whether it went well. */
static bool try_life(enum fail_how how, unsigned long nth)
{
	pid_t pid;
	int status;

	memset(report, 0, sizeof(*report));
	report->fired = -1;
	pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		a_life(how, nth);
	CHECK(waitpid(pid, &status, 0) == pid);
	if (status)
		printf("# call %lu: status %x\n", nth, (unsigned int)status);
	else if (!is_tidy(how))
		printf("# call %lu: %zu MiB are left\n", nth, report->space >> 20);
	return !status && is_tidy(how);
}

static enum fail_how how_of(const char *name)
{
	static const char *const names[] = { "once", "burst", "ever", "filter", "hole", "lost" };

	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(names[i], name))
			return (enum fail_how)i;
	fprintf(stderr, "life: fail how? %s\n", name);
	exit(2);
}

/* Another life with the same objects makes some calls more, or some less. */
static unsigned int try_each(enum fail_how how, unsigned long each, unsigned long calls)
{
	unsigned int bad = 0, seen[1024] = { 0 };

	for (unsigned long n = 1; n <= calls; n += each) {
		bad += !try_life(how, n);
		if (report->fired >= 0 && report->fired < 1024)
			seen[report->fired]++;
	}
	for (unsigned int i = 0; i < 1024; i++)
		if (seen[i])
			printf("# call number %u failed in %u lives\n", i, seen[i]);
	return bad;
}

/* 0 if all lives went well, 77 if there was nothing to be seen. */
static int try_how(const char *backend, unsigned long each, const char *name, int number)
{
	enum fail_how how = how_of(name);
	bool good = try_life(how, 0);
	bool skip = good && strcmp(backend, "none") && !report->merges;

	good = good && !report->views;
	space_left = report->space;
	printf("# %lu calls to fail, %zu merges\n", report->counted, report->merges);
	good = good && (skip || !try_each(how, each, report->counted));
	printf("%s %d %s.%s%s\n", good ? "ok" : "not ok", number, backend, name,
	       skip ? " # SKIP nothing can be merged here" : "");
	return skip ? 77 : !good;
}

int main(int argc, char **argv)
{
	unsigned long each = argc > 3 ? strtoul(argv[2], NULL, 10) : 0;
	int status = 0;

	if (!each) {
		fprintf(stderr, "usage: life none|memfd|helper EACH once|burst|ever|filter...\n");
		return 2;
	}
	if (strcmp(getenv("MESH_BACKEND") ?: "", argv[1])) {
		setenv("MESH_BACKEND", argv[1], 1);
		execv("/proc/self/exe", argv);
		return 2;
	}
	setvbuf(stdout, NULL, _IONBF, 0);
	report = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(report != MAP_FAILED);
	printf("1..%d\n", argc - 3);
	for (int i = 3; i < argc; i++) {
		int result = try_how(argv[1], each, argv[i], i - 2);

		status = status == 1 ? 1 : result ?: status;
	}
	return status;
}
