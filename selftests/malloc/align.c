/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Every size is aligned to 16; every alignment up to 64 MiB is honoured. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "check.h"

static int aligned(const void *p, size_t align)
{
	return p && ((uintptr_t)p & (align - 1)) == 0;
}

static void check_size(size_t n)
{
	char *p = malloc(n), *q = calloc(1, n), *r = realloc(NULL, n);

	CHECK(aligned(p, 16) && aligned(q, 16) && aligned(r, 16));
	CHECK(p != q && q != r && p != r);
	free(p);
	free(q);
	free(r);
}

static void check_align(size_t align, size_t n)
{
	void *p = NULL;

	CHECK(posix_memalign(&p, align, n) == 0);
	CHECK(aligned(p, align));
	CHECK(malloc_usable_size(p) >= n);
	memset(p, 1, n);
	free(p);
	p = aligned_alloc(align, n);
	CHECK(aligned(p, align));
	memset(p, 2, n);
	p = realloc(p, n + 100);
	CHECK(p);
	free(p);
	p = memalign(align, n);
	CHECK(aligned(p, align));
	free(p);
}

/* Beyond 1 MiB it is a mapping, also for objects of sizes that are none otherwise. */
static void check_realloc(size_t align, size_t n, size_t to)
{
	char *p = memalign(align, n);

	CHECK(aligned(p, align));
	CHECK(malloc_usable_size(p) >= n);
	fill(p, n, 5);
	p = realloc(p, to);
	CHECK(p && malloc_usable_size(p) >= to);
	CHECK(is_filled(p, n < to ? n : to, 5));
	fill(p, to, 6);
	p = realloc(p, n);
	CHECK(p && is_filled(p, n < to ? n : to, 6));
	free(p);
}

static void check_reallocs(void)
{
	static const size_t sizes[] = { 1, 5000, 32768, 40000, 2 << 20, 40 << 20 };
	const size_t nr = sizeof(sizes) / sizeof(*sizes);

	for (size_t align = 1 << 20; align <= 4 << 20; align *= 2)
		for (size_t i = 0; i < nr * nr; i++)
			check_realloc(align, sizes[i / nr], sizes[i % nr]);
}

static void check_errors(void)
{
	void *p = &p;

	CHECK(posix_memalign(&p, 0, 1) == EINVAL);
	CHECK(posix_memalign(&p, hide(4), 1) == EINVAL);
	CHECK(posix_memalign(&p, hide(24), 1) == EINVAL);
	CHECK(p == &p);
	errno = 0;
	CHECK(aligned_alloc(hide(24), 48) == NULL && errno == EINVAL);
	errno = 0;
	CHECK(aligned_alloc(hide(0), 48) == NULL && errno == EINVAL);
	errno = 0;
	CHECK(memalign(hide(SIZE_MAX), 48) == NULL && errno == EINVAL);
	p = memalign(hide(24), 48);
	CHECK(aligned(p, 32));
	free(p);
	p = memalign(hide(0), 48);
	CHECK(aligned(p, 16));
	free(p);
}

static void check_pages(void)
{
	char *p = valloc(10), *q = pvalloc(4097), *r = pvalloc(0);

	CHECK(aligned(p, 4096) && aligned(q, 4096) && aligned(r, 4096));
	CHECK(malloc_usable_size(q) >= 8192);
	free(p);
	free(q);
	free(r);
}

int main(void)
{
	for (size_t n = 0; n < 70000; n++)
		check_size(n);
	for (size_t align = 8; align <= (size_t)64 << 20; align *= 2) {
		check_align(align, 0);
		check_align(align, 1);
		check_align(align, 100);
		check_align(align, 5000);
		check_align(align, 40000);
		check_align(align, 3000000);
	}
	for (size_t n = 1; n < 5000; n += 7)
		check_align(256, n);
	check_reallocs();
	check_errors();
	check_pages();
	return 0;
}
