/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Formatting without stdio gives what stdio gives. */
#include <limits.h>
#include <unistd.h>

#include "message.h"
#include "options.h"
#include "unit.h"

#define SAME(...) do { \
	char want_[256], got_[256]; \
	struct text t_ = { .fd = -1, .size = sizeof(got_) - 1, .buf = got_ }; \
	snprintf(want_, sizeof(want_), __VA_ARGS__); \
	text_printf(&t_, __VA_ARGS__); \
	got_[t_.len] = '\0'; \
	if (strcmp(want_, got_)) { \
		printf("want <%s> got <%s>\n", want_, got_); \
		exit(1); \
	} \
} while (0)

TEST(conversions)
{
	SAME("plain");
	SAME("%s|%c|%%", "string", 'c');
	SAME("%d %d %d %d", 0, -1, INT_MAX, INT_MIN);
	SAME("%ld %ld", LONG_MAX, LONG_MIN);
	SAME("%u %u %lu %zu", 0u, UINT_MAX, ULONG_MAX, (size_t)12345);
	SAME("%x %x %lx", 0u, 0xdeadbeefu, 0x123456789abcdefUL);
	SAME("%p", (void *)0x7f0012345678);
	SAME("[%8s][%-8s][%2s]", "abc", "abc", "abc");
	SAME("[%8u][%-8u][%12zu][%6d]", 42u, 42u, (size_t)7, -42);
}

static void say(void)
{
	message("number %d of %s", 5, "many");
	verbose("not shown");
	options.verbose = 1;
	verbose("shown");
}

TEST(lines)
{
	CHECK(!strcmp(unit_stderr(say), "libmesh: number 5 of many\nlibmesh: shown\n"));
}

static void die(void)
{
	fatal("the end of %p", (void *)0x10);
}

TEST(fatal_aborts)
{
	unit_must_abort(die, "the end of 0x10");
}

TEST(full_buffer_drops)
{
	char buf[9] = "xxxxxxxx";
	struct text t = { .fd = -1, .size = 4, .buf = buf };

	text_printf(&t, "abcdefgh");
	CHECK_EQ(t.len, 4);
	CHECK(!memcmp(buf, "abcdxxxx", 8));
}

TEST(bound_buffer_flushes)
{
	char buf[3], out[64] = "";
	struct text t = { .size = sizeof(buf), .buf = buf };
	int fd[2];

	CHECK(pipe(fd) == 0);
	t.fd = fd[1];
	text_printf(&t, "0123456789 %u", 123456u);
	text_flush(&t);
	CHECK_EQ(read(fd[0], out, sizeof(out)), 17);
	CHECK(!strcmp(out, "0123456789 123456"));
}

UNIT_MAIN(UNIT(conversions), UNIT(lines), UNIT(fatal_aborts), UNIT(full_buffer_drops),
	  UNIT(bound_buffer_flushes))
