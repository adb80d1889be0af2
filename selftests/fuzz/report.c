// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * What a process has done last, and what it says when it finds something.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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
