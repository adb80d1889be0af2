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

/**
 * mappings_open() - learn the limit and count what is there
 *
 * Return: 0 or -errno.
 */
int mappings_open(void);

/**
 * mappings_take() - may @n mappings be made?
 */
bool mappings_take(unsigned int n);

#endif /* MESH_MAPPINGS_H */
