/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Huge objects, of more than LARGE_MAX bytes or an alignment beyond LARGE_ALIGN_MAX: a mapping
 * each, found by address in one hash table.
 */
#ifndef MESH_HUGE_H
#define MESH_HUGE_H

#include <stdbool.h>

#include "compiler.h"

/**
 * huge_alloc() - map an object that reads as zero
 * @size: bytes, at most PTRDIFF_MAX
 * @align: power of two
 *
 * Return: its address, or NULL.
 */
void *huge_alloc(size_t size, size_t align);

/**
 * huge_size() - bytes usable in the object at an address
 * @p: any address
 *
 * Return: 0 when no huge object starts there.
 */
size_t huge_size(const void *p);

/**
 * huge_free() - unmap an object
 * @p: any address
 *
 * Return: did a huge object start there?
 */
bool huge_free(void *p);

/**
 * huge_realloc() - change an object's size, moving its pages if need be
 * @p: address of a huge object
 * @size: bytes, at least 1
 *
 * Return: its new address, or NULL and nothing has changed.
 */
void *huge_realloc(void *p, size_t size);

/**
 * huge_adopt() - make a huge object of pages that are part of another mapping
 * @p: address of the pages; they read as zero afterwards
 * @len: bytes to move
 * @size: bytes that it shall have, at least @len
 *
 * Return: its address, or NULL and nothing has changed.
 */
void *huge_adopt(void *p, size_t len, size_t size);

/**
 * struct huge_usage - huge objects of the process
 * @objects: how many
 * @bytes: sum of their sizes
 */
struct huge_usage {
	size_t objects;
	size_t bytes;
};

struct huge_usage huge_usage(void);

void huge_fork_prepare(void);
void huge_fork_done(void);

#endif /* MESH_HUGE_H */
