/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * What the load programs share: a deterministic mixer (every payload follows from
 * a number), the clock, and what /proc says about the memory of this process.
 *
 * Nothing here allocates with malloc: the programs measure malloc.
 */
#ifndef SELFTESTS_BENCH_H
#define SELFTESTS_BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Memory of a process as its smaps_rollup in /proc has it, in kB. */
struct memory {
	long pss_kb;
	long rss_kb;
};

/**
 * mix() - splitmix64 step
 * @x: any number
 *
 * A bijection, so distinct inputs give distinct outputs.
 *
 * Return: a number in which every bit depends on every bit of @x.
 */
static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/**
 * now() - seconds on the monotonic clock
 *
 * Return: seconds since some fixed point.
 */
double now(void);

/**
 * sleep_for() - do nothing for a while
 * @seconds: how long; a signal ends it early
 */
void sleep_for(double seconds);

/**
 * merges() - pairs of spans that libmesh has merged in this process
 *
 * Return: how many; -1 with another allocator.
 */
long merges(void);

/**
 * await_merge() - wait until libmesh has merged something in this process
 * @seconds: how long at most
 *
 * Return: 1 if it has, 0 if not; at once with another allocator.
 */
int await_merge(double seconds);

/**
 * payload_fill() - write the bytes that belong to a number
 * @p: where to
 * @len: how many
 * @seed: the number
 */
void payload_fill(void *p, size_t len, uint64_t seed);

/**
 * payload_ok() - compare memory with the bytes that belong to a number
 * @p: memory to check
 * @len: how many bytes
 * @seed: the number
 *
 * Return: 1 if every byte is right, else 0.
 */
int payload_ok(const void *p, size_t len, uint64_t seed);

/**
 * memory_read() - ask the kernel how much memory this process uses
 * @m: the answer; zeroes if /proc cannot be read
 */
void memory_read(struct memory *m);

/**
 * memory_read_of() - the same of another process
 * @pid: process
 * @m: the answer; zeroes if /proc cannot be read
 */
void memory_read_of(pid_t pid, struct memory *m);

/**
 * mappings() - count the mappings of this process
 *
 * Return: lines of its maps in /proc; 0 if that cannot be read.
 */
long mappings(void);

/**
 * map_or_die() - zeroed memory that does not come from malloc
 * @len: bytes
 *
 * Return: the memory; ends the program if there is none.
 */
void *map_or_die(size_t len);

/**
 * median() - of some numbers
 * @values: the numbers, in any order; sorted afterwards
 * @n: how many, at least 1
 */
double median(double *values, unsigned int n);

/**
 * struct bench_option - an option of a program, for one of these:
 * @name: without the "--"
 * @number: a number
 * @seconds: a number that may have a fraction
 * @word: anything
 * @flag: nothing; becomes 1
 */
struct bench_option {
	const char *name;
	unsigned long *number;
	double *seconds;
	const char **word;
	int *flag;
};

/**
 * bench_options() - read the options of a program
 * @argc: as main() has it
 * @argv: as main() has it
 * @options: those that there are; the last one has no name
 * @usage: text that is printed for --help and, as an error, for what is not understood
 *
 * Return: index of the first argument that is no option.
 */
int bench_options(int argc, char **argv, const struct bench_option *options, const char *usage);

/**
 * bench_misused() - end the program because it was called in a wrong way
 * @usage: text to print
 */
void bench_misused(const char *usage) __attribute__((noreturn));

/**
 * die() - print one line on stderr and end with exit code 2
 * @fmt: as for printf
 */
void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif /* SELFTESTS_BENCH_H */
