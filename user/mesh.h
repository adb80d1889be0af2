/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * mesh.h: what a program may ask of libmesh.so beyond malloc(3).
 *
 * A program that shall run without the library, too, looks the function up by dlsym(3),
 * or declares it weak.
 */
#ifndef MESH_H
#define MESH_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * mesh_mallctl() - read or set a value, or have something done, by name
 * @name: one of the names below
 * @oldp: where the value before the call goes, a size_t; or NULL
 * @oldlenp: size of @oldp, sizeof(size_t); or NULL
 * @newp: the new value, a size_t; or NULL
 * @newlen: size of @newp, or 0
 *
 * Works like jemalloc's mallctl() with numbers that all are size_t, in bytes unless stated:
 *
 *	mesh.check_period	milliseconds between two meshing passes; can be set
 *	mesh.compact		mesh and give back all that can be, now (no value)
 *	mesh.scavenge		give free pages back, now (no value)
 *	mesh.merges		pairs of spans merged so far (a number)
 *	stats.allocated		in use by the program
 *	stats.active		pages in use for that; a page that several spans share, once
 *	stats.meshed		saved now by sharing pages
 *	stats.mapped		address space of the heap
 *	stats.resident		PSS of the process, as the kernel counts it
 *
 * Names without a value ignore @oldp and @newp. Any thread may call this, but no signal
 * handler. What is read is exact while no other thread allocates.
 *
 * Return: 0; ENOENT for an unknown name; EINVAL for a wrong size or a value out of range;
 * EPERM for setting what cannot be set; EIO when the kernel does not tell; ENOMEM when
 * there is no heap. errno stays as it is.
 */
int mesh_mallctl(const char *name, void *oldp, size_t *oldlenp, void *newp, size_t newlen);

#ifdef __cplusplus
}
#endif

#endif /* MESH_H */
