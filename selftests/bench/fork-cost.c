// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * fork-cost: what fork() costs a process with a large, fragmented heap.
 *
 * Makes a heap of many small objects and frees a random half of them; malloc_trim()
 * then lets an allocator mesh. Each round forks several times and measures
 *
 *	fork		the call, until it returns in the parent
 *	idle		memory that parent and child add when neither does anything
 *	child reads	every live object, once; the same for writes
 *	parent reads	every live object, with an idle child; the same for writes
 *
 * and last the same passes without any fork, to tell faults from the loop itself. All
 * objects are checked at the end. Times are medians over the rounds.
 */
#include "bench.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ROUNDS	32

static struct {
	size_t live_mb;
	unsigned long free_percent;
	unsigned long rounds;
	unsigned long settle;
} opt = { .live_mb = 256, .free_percent = 50, .rounds = 5, .settle = 20 };

enum value {
	FORK_US, IDLE_KB, CHILD_READ_MS, CHILD_WRITE_MS, PARENT_READ_MS, PARENT_WRITE_MS,
	READ_MS, WRITE_MS, NR_VALUES
};

static const char *const names[NR_VALUES] = {
	"fork_us", "idle_kb", "child_read_ms", "child_write_ms", "parent_read_ms",
	"parent_write_ms", "read_ms", "write_ms",
};

static double values[NR_VALUES][MAX_ROUNDS];
static unsigned char **object;
static size_t objects, live_bytes;

static size_t size_of(size_t i)
{
	return 16 + mix(i) % 497;
}

static void heap_make(void)
{
	size_t wanted = (opt.live_mb << 20) * 100 / (100 - opt.free_percent), sum = 0, i;

	for (objects = 0; sum < wanted; objects++)
		sum += size_of(objects);
	object = map_or_die(objects * sizeof(*object));
	for (i = 0; i < objects; i++) {
		object[i] = malloc(size_of(i));
		if (!object[i])
			die("out of memory");
		payload_fill(object[i], size_of(i), i);
	}
	for (i = 0; i < objects; i++) {
		if (mix(~i) % 100 < opt.free_percent) {
			free(object[i]);
			object[i] = NULL;
		} else {
			live_bytes += size_of(i);
		}
	}
}

/* Memory stops shrinking: all that can be meshed is. */
static void heap_settle(void)
{
	struct memory before, after;
	unsigned int i;

	memory_read(&after);
	for (i = 0; i < opt.settle; i++) {
		before = after;
		malloc_trim(0);
		sleep(1);
		memory_read(&after);
		if (i > 2 && before.pss_kb - after.pss_kb < before.pss_kb / 200)
			break;
	}
}

static unsigned int read_all(void)
{
	unsigned int sum = 0;
	size_t i;

	for (i = 0; i < objects; i++)
		if (object[i])
			sum += *(volatile unsigned char *)object[i];
	return sum;
}

/* Writes what is there already, without reading it. */
static void write_all(void)
{
	size_t i;

	for (i = 0; i < objects; i++)
		if (object[i])
			payload_fill(object[i], 1, i);
}

static size_t count_wrong(void)
{
	size_t i, wrong = 0;

	for (i = 0; i < objects; i++)
		if (object[i] && !payload_ok(object[i], size_of(i), i))
			wrong++;
	return wrong;
}

static double timed(enum value what)
{
	double start = now();

	if (what == CHILD_READ_MS || what == PARENT_READ_MS || what == READ_MS)
		read_all();
	else
		write_all();
	return (now() - start) * 1e3;
}

static void send(int fd, double value)
{
	if (write(fd, &value, sizeof(value)) != sizeof(value))
		_exit(1);
}

static double receive(int fd)
{
	double value;

	if (read(fd, &value, sizeof(value)) != sizeof(value))
		die("the child is gone");
	return value;
}

/* The child waits for a number and answers what it has measured, until the pipe closes. */
static void child(int in, int out)
{
	double what;

	while (read(in, &what, sizeof(what)) == sizeof(what)) {
		struct memory m;

		if (what == IDLE_KB) {
			memory_read(&m);
			send(out, m.pss_kb);
		} else {
			send(out, timed((enum value)what));
		}
	}
	_exit(0);
}

static void measure(enum value what, unsigned int round)
{
	int down[2], up[2];
	struct memory before, after;
	double start, took;
	pid_t pid;

	if (pipe(down) || pipe(up))
		die("pipe");
	memory_read(&before);
	start = now();
	pid = fork();
	took = (now() - start) * 1e6;
	if (pid < 0)
		die("fork");
	if (!pid) {
		close(down[1]);
		child(down[0], up[1]);
	}
	close(down[0]);
	if (what == CHILD_READ_MS || what == CHILD_WRITE_MS || what == IDLE_KB) {
		send(down[1], what);
		took = what == IDLE_KB ? took : 0;
		values[what][round] = receive(up[0]);
	} else {
		values[what][round] = timed(what);
	}
	if (what == IDLE_KB) {
		memory_read(&after);
		values[FORK_US][round] = took;
		values[IDLE_KB][round] += after.pss_kb - before.pss_kb;
	}
	close(down[1]);
	close(up[0]);
	close(up[1]);
	waitpid(pid, NULL, 0);
}

static void parse_options(int argc, char **argv)
{
	static const char usage[] =
		"usage: fork-cost [--live MB] [--free PERCENT] [--rounds N] [--settle SECONDS]\n";
	static const struct bench_option options[] = {
		{ "live", .number = &opt.live_mb },
		{ "free", .number = &opt.free_percent },
		{ "rounds", .number = &opt.rounds },
		{ "settle", .number = &opt.settle },
		{ 0 }
	};

	if (bench_options(argc, argv, options, usage) != argc || !opt.live_mb ||
	    opt.free_percent > 99 || !opt.rounds || opt.rounds > MAX_ROUNDS)
		bench_misused(usage);
}

int main(int argc, char **argv)
{
	struct memory m;
	unsigned int i;

	parse_options(argc, argv);
	heap_make();
	heap_settle();
	/* Merging has removed page table entries: that is not what a fork costs. */
	read_all();
	for (i = 0; i < opt.rounds; i++) {
		measure(IDLE_KB, i);
		measure(CHILD_READ_MS, i);
		measure(CHILD_WRITE_MS, i);
		measure(PARENT_READ_MS, i);
		measure(PARENT_WRITE_MS, i);
		timed(WRITE_MS);
		values[READ_MS][i] = timed(READ_MS);
		values[WRITE_MS][i] = timed(WRITE_MS);
	}
	memory_read(&m);
	printf("result: live_kb=%zu pss_kb=%ld", live_bytes >> 10, m.pss_kb);
	for (i = 0; i < NR_VALUES; i++)
		printf(" %s=%.1f", names[i], median(values[i], opt.rounds));
	printf(" wrong=%zu\n", count_wrong());
	return 0;
}
