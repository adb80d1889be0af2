/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* The environment: every type of option, right and wrong. */
#include "options.h"
#include "unit.h"

static char *env[8];

static void read_env(void)
{
	options_init(env);
}

static void check_silent(void)
{
	CHECK_EQ(strlen(unit_stderr(read_env)), 0);
}

TEST(defaults)
{
	options_init(NULL);
	options_init(env);
	CHECK_EQ(options.period_ms, 100);
	CHECK_EQ(options.backend, BACKEND_AUTO);
	CHECK_EQ(options.stats, 0);
	CHECK_EQ(options.verbose, 0);
}

TEST(values)
{
	env[0] = "PATH=/bin";
	env[1] = "MESH_PERIOD_MS=250";
	env[2] = "MESH_BACKEND=none";
	env[3] = "MESH_STATS=1";
	env[4] = "MESH_VERBOSE=1";
	check_silent();
	read_env();
	CHECK_EQ(options.period_ms, 250);
	CHECK_EQ(options.backend, BACKEND_NONE);
	CHECK_EQ(options.stats, 1);
	CHECK_EQ(options.verbose, 1);
	env[2] = "MESH_BACKEND=helper";
	read_env();
	CHECK_EQ(options.backend, BACKEND_HELPER);
}

TEST(limits)
{
	env[0] = "MESH_PERIOD_MS=1";
	check_silent();
	env[0] = "MESH_PERIOD_MS=3600000";
	check_silent();
	read_env();
	CHECK_EQ(options.period_ms, 3600000);
}

TEST(foreign_names_are_ignored)
{
	env[0] = "MESH_PERIOD_MS_X=x";
	env[1] = "MESH_=x";
	env[2] = "MESH_UNKNOWN=x";
	env[3] = "MESH_PERIOD_MS";
	env[4] = "xMESH_PERIOD_MS=5";
	env[5] = "";
	check_silent();
	read_env();
	CHECK_EQ(options.period_ms, 100);
}

/* Wherever MESH_VERBOSE is among them; names only, and long ones are cut. */
TEST(unknown_names_are_told_if_asked_for)
{
	static const char want[] =
		"libmesh: ignoring MESH_PEROID_MS: there is no such option\n"
		"libmesh: ignoring MESH_STATSX: there is no such option\n"
		"libmesh: ignoring MESH_XXXX";
	static char longest[200] = "MESH_";
	const char *got;

	memset(longest + strlen(longest), 'X', sizeof(longest) - strlen(longest) - 1);
	env[0] = "MESH_PEROID_MS=5";
	env[1] = "MESHES=1";
	env[2] = "MESH_PERIOD_MS=5";
	env[3] = "MESH_VERBOSE=1";
	env[4] = "MESH_STATSX";
	env[5] = longest;
	got = unit_stderr(read_env);
	CHECK(!strncmp(got, want, strlen(want)));
	CHECK(strlen(got) < 300);
	env[3] = "MESH_VERBOSE=0";
	check_silent();
}

static void check_wrong(char *entry, const char *line)
{
	const char *got;

	env[0] = entry;
	got = unit_stderr(read_env);
	if (strncmp(got, "libmesh: ", 9) || strcmp(got + 9, line)) {
		printf("%s: %s", entry, got);
		exit(1);
	}
}

TEST(wrong_values_are_named)
{
	check_wrong("MESH_PERIOD_MS=0",
		    "MESH_PERIOD_MS=0 is not a number from 1 to 3600000, using 100\n");
	check_wrong("MESH_PERIOD_MS=3600001",
		    "MESH_PERIOD_MS=3600001 is not a number from 1 to 3600000, using 100\n");
	check_wrong("MESH_PERIOD_MS=",
		    "MESH_PERIOD_MS= is not a number from 1 to 3600000, using 100\n");
	check_wrong("MESH_PERIOD_MS=5x",
		    "MESH_PERIOD_MS=5x is not a number from 1 to 3600000, using 100\n");
	check_wrong("MESH_BACKEND=",
		    "MESH_BACKEND= is not one of auto|helper|memfd|none, using the default\n");
	check_wrong("MESH_BACKEND=nones",
		    "MESH_BACKEND=nones is not one of auto|helper|memfd|none, using the default\n");
}

TEST(wrong_value_keeps_default)
{
	env[0] = "MESH_PERIOD_MS=0";
	env[1] = "MESH_BACKEND=x";
	read_env();
	CHECK_EQ(options.period_ms, 100);
	CHECK_EQ(options.backend, BACKEND_AUTO);
}

/* A line is cut, not lost, when the value is as long as a novel. */
TEST(long_value)
{
	static char entry[3000] = "MESH_BACKEND=";
	const char *got;

	memset(entry + strlen(entry), 'x', sizeof(entry) - strlen(entry) - 1);
	env[0] = entry;
	got = unit_stderr(read_env);
	CHECK(strlen(got) < 300 && got[strlen(got) - 1] == '\n');
}

/* It would hang in io_uring_enter(), unless whoever asks for that knows better. */
TEST(valgrind_polls)
{
	env[0] = "LD_PRELOAD=/x/libmesh.so:/y/vgpreload.so";
	read_env();
	CHECK_EQ(options.loop, LOOP_AUTO);
	env[0] = "LD_PRELOAD=/usr/libexec/valgrind/vgpreload_core-amd64-linux.so:/x/libmesh.so";
	env[1] = "MESH_LOOP=uring";
	read_env();
	CHECK_EQ(options.loop, LOOP_URING);
	env[1] = "MESH_LOOP=auto";
	read_env();
	CHECK_EQ(options.loop, LOOP_POLL);
}

UNIT_MAIN(UNIT(defaults), UNIT(values), UNIT(limits), UNIT(foreign_names_are_ignored),
	  UNIT(unknown_names_are_told_if_asked_for), UNIT(wrong_values_are_named),
	  UNIT(wrong_value_keeps_default), UNIT(long_value), UNIT(valgrind_polls))
