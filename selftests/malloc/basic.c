/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * What a program may expect of malloc, calloc, realloc and free: contents, usable
 * room, zeros, unique pointers for nothing, and an errno that free leaves alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "check.h"

/* Sizes around the borders of classes and kinds of objects. */
static const size_t sizes[] = {
	1, 8, 15, 16, 17, 31, 33, 100, 255, 256, 257, 1000, 1024, 3584, 3585, 4095, 4096,
	4097, 8000, 8192, 8193, 32767, 32768, 32769, 40000, 65536, 100000, 1048575, 1048576,
	1048577, 2000000, 5000000,
};

#define NR_SIZES	(sizeof(sizes) / sizeof(*sizes))

static void check_realloc_pair(size_t from, size_t to)
{
	char *p = malloc(from);

	CHECK(p);
	fill(p, from, 3);
	p = realloc(p, to);
	CHECK(p);
	CHECK(malloc_usable_size(p) >= to);
	CHECK(is_filled(p, from < to ? from : to, 3));
	fill(p, to, 4);
	free(p);
}

static void check_realloc(void)
{
	for (size_t i = 0; i < NR_SIZES; i++)
		for (size_t j = 0; j < NR_SIZES; j++)
			check_realloc_pair(sizes[i], sizes[j]);
	CHECK(realloc(malloc(100), hide(0)) == NULL);
	CHECK(realloc(malloc(hide(5000000)), hide(0)) == NULL);
	free(realloc(NULL, 10));
}

/* Grow by small steps between other objects, as vectors do. */
static void check_realloc_steps(void)
{
	char *p = NULL, *other[300] = { 0 };
	size_t n = 1;

	for (int i = 0; i < 300; i++) {
		size_t next = n + n / 16 + 1;

		p = realloc(p, next);
		CHECK(p);
		if (i)
			CHECK(is_filled(p, n, 5));
		fill(p, next, 5);
		n = next > 3000000 ? 1 : next;
		if (n == 1) {
			free(p);
			p = malloc(1);
			fill(p, 1, 5);
		}
		other[i] = malloc(next / 2 + 1);
		CHECK(other[i]);
	}
	free(p);
	for (int i = 0; i < 300; i++)
		free(other[i]);
}

/* Out of the heap into a mapping of its own, by copies or with what is behind it in use. */
static void check_leave_heap(void)
{
	static const size_t to[] = { 35000000, 70000000, 34000000, 20000000, 40000000, 100 };
	size_t size = 30000000;
	char *p = malloc(size), *behind = NULL;

	CHECK(p);
	fill(p, size, 6);
	for (size_t i = 0; i < sizeof(to) / sizeof(*to); i++) {
		free(behind);
		behind = malloc(20000000);
		p = realloc(p, to[i]);
		CHECK(p && malloc_usable_size(p) >= to[i]);
		CHECK(is_filled(p, to[i] < size ? to[i] : size, 6));
		size = to[i];
		fill(p, size, 6);
	}
	free(p);
	free(behind);
}

static void check_usable(void)
{
	CHECK(malloc_usable_size(NULL) == 0);
	for (size_t i = 0; i < NR_SIZES; i++) {
		char *p = malloc(sizes[i]), *q = malloc(sizes[i]);
		size_t n = malloc_usable_size(p);

		CHECK(n >= sizes[i]);
		fill(q, malloc_usable_size(q), 7);
		memset(p, 0xff, n);
		CHECK(is_filled(q, malloc_usable_size(q), 7));
		free(p);
		free(q);
	}
}

static int is_zero(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return 0;
	return 1;
}

/* Memory that was used before is the interesting case. */
static void check_calloc(void)
{
	for (int round = 0; round < 20; round++)
		for (size_t i = 0; i < NR_SIZES; i++) {
			char *p = malloc(sizes[i]), *q;

			memset(p, 0xa5, sizes[i]);
			free(p);
			q = calloc(sizes[i], 1);
			CHECK(q && is_zero(q, sizes[i]));
			memset(q, 0x5a, malloc_usable_size(q));
			free(q);
			if (round % 5 == 4)
				malloc_trim(0);
		}
}

static void check_nothing(void)
{
	void *p[100];

	for (int i = 0; i < 100; i++) {
		p[i] = malloc(hide(0));
		CHECK(p[i]);
		for (int j = 0; j < i; j++)
			CHECK(p[i] != p[j]);
	}
	for (int i = 0; i < 100; i++)
		free(p[i]);
	free(opaque(calloc(hide(0), 10)));
	free(opaque(calloc(10, hide(0))));
	free(NULL);
}

static void check_errno(void)
{
	for (size_t i = 0; i < NR_SIZES; i++) {
		void *p[64];

		for (int j = 0; j < 64; j++)
			p[j] = malloc(sizes[i]);
		for (int j = 0; j < 64; j++) {
			errno = 1234;
			free(p[j]);
			CHECK(errno == 1234);
		}
	}
}

static void check_info(void)
{
	void *p = malloc(200000), *q = malloc(40000000);
	struct mallinfo2 m = mallinfo2();

	CHECK(m.uordblks >= 200000 && m.hblks >= 1 && m.hblkhd >= 40000000);
	CHECK(m.uordblks + m.fordblks == m.arena);
	CHECK(malloc_info(1, stdout) == -1 && errno == EINVAL);
	CHECK(mallopt(M_MMAP_THRESHOLD, 100000) == 1);
	CHECK(mallopt(12345, 1) == 0);
	free(p);
	free(q);
	CHECK(mallinfo2().hblks == m.hblks - 1);
}

void free_sized(void *p, size_t size);
void free_aligned_sized(void *p, size_t align, size_t size);
#pragma weak free_sized
#pragma weak free_aligned_sized

static void check_c23(void)
{
	CHECK(free_sized && free_aligned_sized);
	free_sized(malloc(100), 100);
	free_aligned_sized(aligned_alloc(64, 128), 64, 128);
}

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void *__libc_valloc(size_t size);
void *__libc_pvalloc(size_t size);
void __libc_free(void *p);
void cfree(void *p);

/* There for old programs only. */
#ifdef __x86_64__
__asm__(".symver cfree, cfree@GLIBC_2.2.5");
#else
#define cfree	free
#endif

static void check_other_names(void)
{
	free(__libc_realloc(__libc_malloc(100), 200));
	free(__libc_calloc(10, 10));
	free(__libc_memalign(64, 100));
	free(__libc_valloc(100));
	free(__libc_pvalloc(100));
	__libc_free(malloc(100));
	cfree(malloc(100));
}

int main(void)
{
	check_nothing();
	check_realloc();
	check_realloc_steps();
	check_leave_heap();
	check_usable();
	check_calloc();
	check_errno();
	check_info();
	check_c23();
	check_other_names();
	return 0;
}
