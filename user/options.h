/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Run-time options, read once from the environment (options.def). Constant after
 * options_init(), but for the period, which the program may change at run time: it is
 * read and written by the functions below only. A privileged program (AT_SECURE) gets the defaults.
 */
#ifndef MESH_OPTIONS_H
#define MESH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "compiler.h"

#define MIN_PERIOD_MS	1
#define MAX_PERIOD_MS	3600000

struct options {
#define OPTION_UINT(field, name, def, min, max, help)	unsigned int field;
#define OPTION_ENUM(field, name, def, words, help)	unsigned int field;
#include "options.def"
#undef OPTION_UINT
#undef OPTION_ENUM
};

/* Values of options.backend, in the order of the words. */
enum { BACKEND_AUTO, BACKEND_HELPER, BACKEND_MEMFD, BACKEND_NONE };

/* Values of options.loop and options.protect. */
enum { LOOP_AUTO, LOOP_URING, LOOP_POLL };
enum { PROTECT_AUTO, PROTECT_UFFD, PROTECT_ZAP };

extern struct options options;

/**
 * options_init() - read what is ours from an environment
 * @envp: NAME=value strings, NULL-terminated, or NULL
 *
 * A value that makes no sense is reported in one line; the default stands. With MESH_VERBOSE=1
 * so is a name that begins with MESH_ and is none of ours.
 */
void options_init(char *const *envp);

/**
 * options_period_ms() - milliseconds between two meshing passes
 */
unsigned int options_period_ms(void);

/**
 * options_set_period_ms() - change it; the next pause will be that long
 * @ms: milliseconds
 *
 * Return: false if @ms is out of range, and nothing has changed.
 */
bool options_set_period_ms(size_t ms);

#endif /* MESH_OPTIONS_H */
