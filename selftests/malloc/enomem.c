/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Requests that cannot be served give NULL and ENOMEM, and what exists stays. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "check.h"

#define FAILS(call) do { \
	errno = 0; \
	CHECK(opaque(call) == NULL); \
	CHECK(errno == ENOMEM); \
} while (0)

static const size_t too_large[] = {
	PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 4096,
	SIZE_MAX - 15, SIZE_MAX / 2 - 4095,
};

static void check_size(size_t n, size_t has)
{
	void *out = &out;
	char *p = malloc(has);

	n = hide(n);
	fill(p, 100, 1);
	FAILS(malloc(n));
	FAILS(calloc(1, n));
	FAILS(calloc(n, 2));
	FAILS(realloc(NULL, n));
	FAILS(realloc(p, n));
	FAILS(reallocarray(p, n, 3));
	FAILS(memalign(64, n));
	FAILS(aligned_alloc(4096, n));
	FAILS(valloc(n));
	FAILS(pvalloc(n));
	CHECK(posix_memalign(&out, 64, n) == ENOMEM);
	CHECK(out == &out);
	CHECK(is_filled(p, 100, 1));
	free(p);
}

static void check_huge_realloc(void)
{
	size_t n = (size_t)3 << 20;
	char *p = malloc(n);

	fill(p, n, 2);
	FAILS(realloc(p, hide(PTRDIFF_MAX)));
	FAILS(realloc(p, hide((size_t)1 << 60)));
	CHECK(is_filled(p, n, 2));
	free(p);
}

int main(void)
{
	for (size_t i = 0; i < sizeof(too_large) / sizeof(*too_large); i++)
		for (size_t has = 100; has < (size_t)1 << 30; has *= 1000)
			check_size(too_large[i], has);
	FAILS(calloc(hide((size_t)1 << 33), hide((size_t)1 << 33)));
	FAILS(calloc(hide(SIZE_MAX / 16 + 2), hide(16)));
	FAILS(reallocarray(NULL, hide(SIZE_MAX / 8), hide(9)));
	check_huge_realloc();
	return 0;
}
