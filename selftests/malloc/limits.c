/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Memory, address space and threads run out: every request is served or refused,
 * what was served stays intact, and after some of it is freed there is room again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"

static int is_zero(const unsigned char *p, size_t n)
{
	return !*p && !memcmp(p, p + 1, n - 1);
}

struct node {
	struct node *next;
	size_t size;
	unsigned char data[];
};

static size_t used_address_space(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f && fscanf(f, "%lu", &pages) == 1);
	fclose(f);
	return pages * 4096;
}

static void limit(size_t more)
{
	struct rlimit r;

	r.rlim_cur = r.rlim_max = used_address_space() + more;
	CHECK(setrlimit(RLIMIT_AS, &r) == 0);
}

static struct node *fill_memory(size_t size, unsigned int *count)
{
	struct node *list = NULL;

	for (*count = 0;; ++*count) {
		struct node *n = malloc(sizeof(*n) + size);

		if (!n)
			break;
		n->size = size;
		n->next = list;
		fill(n->data, size, *count);
		list = n;
	}
	CHECK(errno == ENOMEM);
	return list;
}

static void empty_memory(struct node *list, unsigned int count)
{
	while (list) {
		struct node *next = list->next;

		CHECK(is_filled(list->data, list->size, --count));
		free(list);
		list = next;
	}
	CHECK(count == 0);
}

/* What was full must be full again to 3/4 after it was emptied. */
static void exhaust(size_t size)
{
	unsigned int first, second;
	struct node *list;

	limit((size_t)48 << 20);
	list = fill_memory(size, &first);
	CHECK(first * size > (size_t)20 << 20);
	empty_memory(list, first);
	malloc_trim(0);
	list = fill_memory(size, &second);
	CHECK(second >= first / 4 * 3);
	empty_memory(list, second);
}

/*
 * Short blocks have left room for a long one, which is zero if that is asked for, and for the
 * program's own mappings after a trim.
 */
static void case_one_for_many(size_t size)
{
	unsigned int count, again;
	struct node *list;
	unsigned char *p;
	size_t i;

	limit((size_t)96 << 20);
	list = fill_memory(size, &count);
	empty_memory(list, count);
	for (i = 0; i < 2; i++) {
		p = i ? calloc(1, (size_t)48 << 20) : malloc((size_t)48 << 20);
		CHECK(p);
		CHECK(!i || is_zero(p, (size_t)48 << 20));
		memset(p, 1, (size_t)48 << 20);
		p = realloc(p, (size_t)50 << 20);
		CHECK(p && p[((size_t)48 << 20) - 1] == 1);
		free(p);
	}
	CHECK(!malloc((size_t)200 << 20) && errno == ENOMEM);
	malloc_trim(0);
	p = mmap(NULL, (size_t)64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	CHECK(!munmap(p, (size_t)64 << 20));
	list = fill_memory(size, &again);
	CHECK(again >= count / 4 * 3);
	empty_memory(list, again);
}

/* Where the mapping that has @p in it ends, and the next one begins. */
static void find_gap(const void *p, char **start, char **end)
{
	unsigned long first, last, before = 0;
	FILE *f = fopen("/proc/self/maps", "r");

	CHECK(f);
	while (fscanf(f, "%lx-%lx%*[^\n]", &first, &last) == 2 && before <= (uintptr_t)p)
		before = (uintptr_t)p < last ? last : 0;
	fclose(f);
	*start = (char *)before;
	*end = (char *)first;
}

/* The heap cannot grow any more, but there is room elsewhere. */
static void case_no_room_behind(size_t size)
{
	static unsigned char *p[4000];
	char *start, *end;
	unsigned int i;

	find_gap(malloc(100000), &start, &end);
	CHECK(mmap(start, (size_t)(end - start), PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
		   0) == start);
	for (i = 0; i < 4000; i++) {
		p[i] = malloc(size);
		CHECK(p[i]);
		fill(p[i], size, i);
	}
	for (i = 0; i < 4000; i++) {
		CHECK(is_filled(p[i], size, i));
		CHECK(malloc_usable_size(p[i]) >= size);
		p[i] = realloc(p[i], size * 2);
		CHECK(p[i] && is_filled(p[i], size, i));
		free(p[i]);
	}
}

/* There is room for a block that grows a little and has to move, but for no more than it wants. */
static void case_grows_a_little(size_t size)
{
	unsigned char *p = malloc(size), *behind = malloc(size);
	size_t more = size + size / 16;

	CHECK(p && behind);
	fill(p, size, 1);
	limit(more + ((size_t)256 << 10));
	CHECK(!malloc(more + more / 8));
	p = realloc(p, more);
	CHECK(p && is_filled(p, size, 1));
}

/* Less can be had when nothing can be had any more. */
static void case_shrinks(size_t size)
{
	unsigned char *p = malloc(size);
	unsigned int count;

	CHECK(p);
	fill(p, size, 1);
	limit((size_t)16 << 20);
	fill_memory(100, &count);
	while (opaque(malloc(size / 10)))
		;
	p = realloc(p, size / 10);
	CHECK(p && is_filled(p, size / 10, 1));
}

static void *allocate(void *arg)
{
	void *p = malloc(100);

	free(p);
	return arg;
}

/* No room for another stack, nor for anything that a new thread needs. */
static void no_threads(void)
{
	pthread_t t[200];
	unsigned int n = 0;

	limit((size_t)30 << 20);
	while (n < 200 && pthread_create(&t[n], NULL, allocate, NULL) == 0)
		n++;
	while (n--)
		pthread_join(t[n], NULL);
	free(opaque(malloc(100)));
}

/* All of the address space is gone: the fresh thread has no cache of its own. */
static void *starve(void *arg)
{
	unsigned int n = 0;
	void *p;

	limit(0);
	while ((p = malloc(48)) != NULL) {
		memset(p, 1, 48);
		n++;
		if (n > 100000000)
			return NULL;
	}
	CHECK(errno == ENOMEM);
	return arg;
}

static void no_cache(void)
{
	pthread_t t;
	void *result;

	free(malloc(100));
	CHECK(pthread_create(&t, NULL, starve, (void *)1) == 0);
	pthread_join(t, &result);
	CHECK(result == (void *)1);
}

static void no_heap(void)
{
	limit(0);
	CHECK(malloc((size_t)64 << 20) == NULL && errno == ENOMEM);
	CHECK(calloc(1, (size_t)64 << 20) == NULL && errno == ENOMEM);
}

/* They take the room that they need. */
static void case_long_alignment(size_t align)
{
	unsigned int n = 0;
	char *p;

	limit(64 * align);
	while ((p = aligned_alloc(align, align)) != NULL) {
		CHECK(malloc_usable_size(p) == align);
		memset(p, 1, 100);
		n++;
	}
	CHECK(errno == ENOMEM);
	CHECK(n >= 32 && n <= 64);
}

/* Every case in a process of its own: limits do not grow back. */
static void in_child(void (*fn)(size_t), size_t arg)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (!pid) {
		fn(arg);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(status == 0);
}

static void case_no_threads(size_t arg) { (void)arg; no_threads(); }
static void case_no_cache(size_t arg) { (void)arg; no_cache(); }
static void case_no_heap(size_t arg) { (void)arg; no_heap(); }

/* mlockall must not make more of us resident than is in use. */
static void case_mlockall(size_t arg)
{
	struct rlimit r = { (size_t)32 << 20, (size_t)32 << 20 };

	(void)arg;
	if (setrlimit(RLIMIT_MEMLOCK, &r) || mlockall(MCL_CURRENT | MCL_FUTURE))
		return;
	for (int i = 0; i < 1000; i++)
		CHECK(malloc(1000));
}

int main(void)
{
	static const size_t sizes[] = { 24, 400, 5000, 30000, 100000, 900000, 3000000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		in_child(exhaust, sizes[i]);
	in_child(case_one_for_many, 30000);
	in_child(case_one_for_many, 900000);
	in_child(case_no_room_behind, 5000);
	in_child(case_no_room_behind, 30000);
	in_child(case_grows_a_little, (size_t)16 << 20);
	in_child(case_shrinks, 500);
	in_child(case_shrinks, 30000);
	in_child(case_shrinks, (size_t)40 << 20);
	in_child(case_no_threads, 0);
	in_child(case_no_cache, 0);
	in_child(case_no_heap, 0);
	in_child(case_mlockall, 0);
	in_child(case_long_alignment, (size_t)2 << 20);
	return 0;
}
