/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * foreign.h: objects of another malloc that the program is linked with.
 */
#ifndef MESH_FOREIGN_H
#define MESH_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>

/**
 * foreign_has() - may an address that is not ours be one of another malloc's objects?
 * @p: the address
 *
 * Not where there is but the C library's malloc, which has no objects, and not when that other
 * malloc has just been asked and asks us.
 */
bool foreign_has(const void *p);

/* As free(3), realloc(3) and malloc_usable_size(3), for such addresses. */
void foreign_free(void *p);
void *foreign_realloc(void *p, size_t size);
size_t foreign_size(void *p);

#endif /* MESH_FOREIGN_H */
