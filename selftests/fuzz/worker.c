// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * One process of the fuzzer: random stream, loop, and what it says when it finds something.
 */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct worker self;
struct control *control;
int control_fd = -1;
_Thread_local uint64_t *random_stream;

/* splitmix64 (Steele, Lea, Flood 2014): any state will do, and close ones do not correlate. */
uint64_t mix(uint64_t value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
	return value ^ value >> 31;
}

uint64_t next_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ULL;
	return mix(*state);
}

uint64_t random64(void)
{
	return next_random(random_stream ? random_stream : &self.random);
}

unsigned int below(unsigned int n)
{
	return (random64() >> 32) * n >> 32;
}

bool one_in(unsigned int n)
{
	return !below(n);
}

/**
 * stamp - a word to write that tells who wrote it, when, and where in the page
 * @number: tells apart what one operation writes
 * @word: number of the word in its page
 *
 * Return: never 0.
 */
uint64_t stamp(unsigned int number, unsigned int word)
{
	return (uint64_t)(self.ordinal & 0x3fff) << 50 | (uint64_t)(self.op & 0x3fffff) << 28 |
	       (number & 0x7ffff) << 9 | word;
}

/* Add to the line about the current operation. */
void note(const char *format, ...)
{
	struct record *record = &self.ring[self.op % RING];
	size_t len = strlen(record->text);
	va_list args;

	va_start(args, format);
	vsnprintf(record->text + len, sizeof(record->text) - len, format, args);
	va_end(args);
}

static void print_record(FILE *out, unsigned int op)
{
	struct record *record = &self.ring[op % RING];

	if (record->op == op && *record->text)
		fprintf(out, "#   %u: %s\n", op, record->text);
}

static void print_page(FILE *out, const struct page *page, unsigned int index)
{
	fprintf(out, " %u:%p/%x%s%s", index, (void *)page->addr, page->prot,
		page->locked ? "L" : "", page->not_forked ? "D" : "");
}

/* First page of each run, and how its arena is laid out. */
static void print_arena(FILE *out, struct arena *arena)
{
	unsigned int i = 0;

	if (!arena->nr)
		return;
	fprintf(out, "#   arena %zu, %u pages:", arena - self.arena, arena->nr);
	while (i < arena->nr) {
		print_page(out, &arena->page[i], i);
		i += arena->page[i].addr ? run_of(arena, i).nr : 1;
	}
	fprintf(out, "\n");
}

static void report(FILE *out, const char *text)
{
	unsigned int i;

	fprintf(out, "# FOUND seed %llu process %u (forked by %u at its operation %u) "
		"operation %u: %s\n", (unsigned long long)control->seed, self.ordinal,
		self.parent, self.parent_op, self.op, text);
	for (i = 0; i < MAX_ARENAS; i++)
		print_arena(out, &self.arena[i]);
	fprintf(out, "#   what it did last:\n");
	for (i = self.op < RING ? 0 : self.op - RING + 1; i <= self.op; i++)
		print_record(out, i);
}

/* One write, so that reports of several processes do not mix. */
static void write_out(const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, text, len);

		if (n < 0 && errno != EINTR)
			return;
		if (n > 0) {
			text += n;
			len -= n;
		}
	}
}

/**
 * fail - something is not as it must be: report it, and end this process
 * @format: what, as for printf
 */
void fail(const char *format, ...)
{
	static char text[512];
	char *buffer = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&buffer, &size);
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* Others may find the same. The supervisor kills everybody once it sees @failed. */
	if (out && !atomic_exchange(&control->reporting, true)) {
		report(out, text);
		fclose(out);
		write_out(buffer, size);
		control->failed = true;
	}
	_exit(1);
}

/* The fuzzer itself cannot go on. That is never a pass either. */
void die(const char *what)
{
	fail("fuzzer: %s: %s", what, strerror(errno));
}

/* Get a line in the table of processes, for whoever wants to know what hangs. */
void worker_enlist(void)
{
	int i, none;

	for (i = 0; i < MAX_PROCESSES; i++) {
		none = 0;
		if (atomic_compare_exchange_strong(&control->process[i].pid, &none, getpid()))
			break;
	}
	self.slot = i < MAX_PROCESSES ? i : -1;
	if (self.slot >= 0)
		control->process[self.slot].ordinal = self.ordinal;
}

/* @pid has been waited for: it is gone from the table and makes room for another. */
void reaped(pid_t pid)
{
	unsigned int i;

	for (i = 0; i < MAX_PROCESSES; i++) {
		int expected = pid;

		atomic_compare_exchange_strong(&control->process[i].pid, &expected, 0);
	}
	control->live--;
}

/**
 * worker_start - become a process without arenas
 * @seed: of its random stream
 */
void worker_start(uint64_t seed)
{
	memset(&self, 0, sizeof(self));
	self.random = seed;
	self.ordinal = control->next_ordinal++;
	self.uffd = -1;
	self.uring.fd = -1;
	self.last_op = control->max_ops ? control->max_ops : 400 + below(800);
	self.device = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (self.device < 0)
		die("open " DEVICE);
	worker_enlist();
	catch_signals();
}

static void begin_operation(unsigned int kind)
{
	struct record *record;

	self.op++;
	record = &self.ring[self.op % RING];
	record->op = self.op;
	record->text[0] = 0;
	note("%s", operations[kind].name);
	control->done[kind]++;
	if (self.slot >= 0) {
		control->process[self.slot].op = self.op;
		control->process[self.slot].kind = kind;
	}
}

static void end_operation(unsigned int kind, bool effective)
{
	control->effective[kind] += effective;
	if (!effective)
		note(" -");
	if (control->verbose)
		dprintf(STDOUT_FILENO, "# %u.%u %s\n", self.ordinal, self.op,
			self.ring[self.op % RING].text);
}

/* Child and parent both come out of an operation that forks. */
static void step(void)
{
	unsigned int kind = choose_operation(self.burst);

	if (self.burst)
		self.burst--;
	begin_operation(kind);
	end_operation(kind, operations[kind].run());
	if (self.op % 16 == 0)
		check_all();
}

/* Leave with everything still mapped: the kernel has to take it down. */
void worker_end(void)
{
	check_all();
	_exit(0);
}

void worker_run(void)
{
	while (!control->stop && self.op < self.last_op)
		step();
	worker_end();
}
