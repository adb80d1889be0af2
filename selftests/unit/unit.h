/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * unit.h: the smallest test harness that will do.
 *
 * A test program defines functions with TEST(name) and lists them in UNIT_MAIN().
 * The library under test is linked in without malloc, so a test may use stdio.
 */
#ifndef UNIT_H
#define UNIT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(cond) do { \
	if (!(cond)) { \
		printf("%s:%d: %s\n", __FILE__, __LINE__, #cond); \
		exit(1); \
	} \
} while (0)

#define CHECK_EQ(a, b) do { \
	long long va_ = (long long)(a), vb_ = (long long)(b); \
	if (va_ != vb_) { \
		printf("%s:%d: %s is %lld, not %s = %lld\n", __FILE__, __LINE__, #a, va_, #b, \
		       vb_); \
		exit(1); \
	} \
} while (0)

struct unit_test {
	const char *name;
	void (*fn)(void);
};

#define TEST(name)	static void name(void)
#define UNIT(name)	{ #name, name }

/* Run every test in a process of its own; TAP on standard output. */
int unit_main(const struct unit_test *tests, unsigned int nr);

#define UNIT_MAIN(...) \
	int main(void) \
	{ \
		static const struct unit_test tests[] = { __VA_ARGS__ }; \
		return unit_main(tests, sizeof(tests) / sizeof(*tests)); \
	}

/*
 * Run @fn in a child that must abort after writing exactly "libmesh: " @line and a
 * newline to standard error.
 */
void unit_must_abort(void (*fn)(void), const char *line);

/* What @fn, run in a child that must exit with 0, writes to standard error. */
const char *unit_stderr(void (*fn)(void));

/* Set up the heap without malloc.c. */
void unit_heap(void);

static inline uint32_t unit_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*state >> 33);
}

#endif /* UNIT_H */
