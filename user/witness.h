/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * witness.h: is there another process that has been forked from this one and still
 * has our memory?
 *
 * Time is cut into epochs. Who was forked in one, in whatever way, is a witness of it
 * until it ends or executes another program, and so are those that it forks.
 *
 * Threads: the daemon's.
 */
#ifndef MESH_WITNESS_H
#define MESH_WITNESS_H

#include <stdbool.h>

/**
 * witness_open() - start without witnesses
 *
 * In a child: it goes on being one of its parent's.
 *
 * Return: 0 or -errno.
 */
int witness_open(void);

/**
 * witness_epoch() - begin an epoch
 *
 * Return: its number, or 0 if that is not possible.
 */
unsigned long witness_epoch(void);

/**
 * witness_none_since() - has nobody who is still there been forked since?
 * @epoch: number of the epoch that it began with
 *
 * When in doubt the answer is no. The call itself begins an epoch.
 */
bool witness_none_since(unsigned long epoch);

void witness_close(void);

#endif /* MESH_WITNESS_H */
