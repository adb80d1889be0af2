/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * foreign.h: objects of another malloc that the program is linked with.
 */
#ifndef MESH_FOREIGN_H
#define MESH_FOREIGN_H

#include <stddef.h>

/**
 * struct foreign - the functions of another malloc, which ours hide
 * @free: free(3), for its own objects, and so on
 * @realloc: realloc(3)
 * @usable_size: malloc_usable_size(3)
 */
struct foreign {
	void (*free)(void *p);
	void *(*realloc)(void *p, size_t size);
	size_t (*usable_size)(void *p);
};

/**
 * foreign_malloc() - what an object that is not ours belongs to
 *
 * Return: NULL where there is but the C library's malloc, which has no objects.
 */
const struct foreign *foreign_malloc(void);

#endif /* MESH_FOREIGN_H */
