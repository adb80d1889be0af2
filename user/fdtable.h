/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* fdtable.h: a descriptor table that no other thread can see. */
#ifndef MESH_FDTABLE_H
#define MESH_FDTABLE_H

#include <stdbool.h>

/**
 * fdtable_make_private() - give the calling thread an empty table of its own
 * @keep_stderr: all but empty: descriptor 2 stays
 *
 * The program may then close and reuse numbers as it likes and never hits ours,
 * and no pipe or file of its stays open because of us. Its record locks (fcntl)
 * belong to its own table and are not touched.
 *
 * Return: 0 or -errno; the thread must then not open anything.
 */
int fdtable_make_private(bool keep_stderr);

#endif /* MESH_FDTABLE_H */
