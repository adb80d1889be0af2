/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* other.h: what another malloc has besides malloc(3). */
#ifndef OTHER_H
#define OTHER_H

#include <stddef.h>

/* An object of its own, of 256 bytes, or NULL. */
void *other_alloc(size_t size);

/* Calls of its free() and its realloc() with an object. */
extern unsigned int other_frees;
extern unsigned int other_reallocs;

#endif /* OTHER_H */
