/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Text output without stdio and without memory: a bounded buffer that formats
 * and, when bound to a descriptor, writes itself out by write(2).
 *
 * Conversions: %s %c %d %u %ld %lu %zu %x %lx %p %% and a minimal width for
 * numbers and strings (%-12s, %10zu). Nothing else.
 */
#ifndef MESH_MESSAGE_H
#define MESH_MESSAGE_H

#include <stdarg.h>
#include <stdbool.h>

#include "compiler.h"

/**
 * struct text - a sink for formatted text
 * @fd: descriptor that full buffers are written to, or -1: text that does not
 *	fit is dropped
 * @len: bytes in @buf
 * @size: bytes @buf can hold
 * @buf: storage of the caller
 */
struct text {
	int fd;
	size_t len;
	size_t size;
	char *buf;
};

void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_flush(struct text *t);

/* Set by a thread whose descriptor 2 is not the standard error of the process. */
extern MESH_TLS bool message_borrow;

/**
 * message() - write "libmesh: <text>\n" to standard error, in one write
 * @fmt: one sentence, no newline
 */
void message(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/**
 * verbose() - message(), only when MESH_VERBOSE is set
 * @fmt: one sentence, no newline
 */
void verbose(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/**
 * fatal() - message(), then abort
 * @fmt: one sentence, no newline
 */
_Noreturn MESH_COLD void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif /* MESH_MESSAGE_H */
