/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * mappings.h: how many more mappings this process should make.
 *
 * The kernel allows a process vm.max_map_count of them, the program's own included,
 * and a program that has used them up is in trouble. So some are left to it, always.
 * Counting them is slow where there are many; in between it is enough to assume that
 * each merge has made as many as it can.
 *
 * Threads: the daemon's.
 */
#ifndef MESH_MAPPINGS_H
#define MESH_MAPPINGS_H

#include <stdbool.h>
#include <stdint.h>

/**
 * mappings_open() - learn the limit and count what is there
 *
 * Return: 0 or -errno.
 */
int mappings_open(void);

/* Most mappings that a merge adds: two spans may cut one in three each. */
#define MAPPINGS_OF_MERGE	4

/**
 * mappings_refresh() - count again if the last time was long ago
 *
 * Slow where there are many.
 */
void mappings_refresh(void);

/**
 * mappings_take() - may @n mappings be made?
 */
bool mappings_take(unsigned int n);

/**
 * mappings_frontier() - how far up in the arena merging is worthwhile
 *
 * A merged span is a mapping, and so is a gap between two of them. Where there are not
 * enough mappings for the whole arena, a part in which everything is merged needs fewer
 * for each page saved than an arena with merges all over. It gets longer when there
 * turn out to be mappings left.
 *
 * Return: page index behind that part; 0 when there are no mappings left.
 */
uint32_t mappings_frontier(void);

#endif /* MESH_MAPPINGS_H */
