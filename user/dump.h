/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * dump.h: statistics of a running program, when it is sent a signal.
 *
 * Only with MESH_DUMP_SIGNALS=1, and only for a signal that the program leaves at its
 * default: its own handler, whenever it installs one, takes the place of ours. The handler
 * just takes a note; the meshing thread prints, as it may take locks.
 */
#ifndef MESH_DUMP_H
#define MESH_DUMP_H

/**
 * dump_init() - handle SIGUSR1 and SIGUSR2 if options say so
 *
 * Once, while the heap is set up; allocates nothing.
 */
void dump_init(void);

/**
 * dump_serve() - print what was asked for since
 *
 * The daemon's, with no lock held.
 */
void dump_serve(void);

#endif /* MESH_DUMP_H */
