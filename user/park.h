/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * park.h: taking back what is in caches and not wanted.
 */
#ifndef MESH_PARK_H
#define MESH_PARK_H

#include "tcache.h"

/**
 * park_open() - find out whether it can be done
 *
 * Return: 0 or -errno.
 */
int park_open(void);

/**
 * park_idle() - take back what is in caches that look as they did at the last call
 *
 * The daemon's, after park_open(). One slot of each class stays with its thread. What threads
 * that have ended left is taken back as well, but not counted.
 *
 * Return: slots that went back to the central lists.
 */
size_t park_idle(void);

/**
 * park_transfers() - take back what is in transfer caches and was not wanted since the last call
 * @all: take everything
 *
 * The daemon's.
 *
 * Return: slots that went back to the spans.
 */
size_t park_transfers(bool all);

/**
 * park_abandon() - give up what the calling thread holds if it is in one of these
 *
 * It has found a double free there, and a handler of the program's may allocate or fork.
 */
void park_abandon(void);

/**
 * unpark() - make a parked cache whole again
 * @tc: the caller's own, which it has made busy, or one of a dead thread
 */
void unpark(struct tcache *tc);

#endif /* MESH_PARK_H */
