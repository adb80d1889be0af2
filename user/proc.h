/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * proc.h: numbers that the kernel prints.
 */
#ifndef MESH_PROC_H
#define MESH_PROC_H

/**
 * proc_number() - read a number from a file in /proc
 * @path: the file; only its first 4 KiB are looked at
 * @key: what stands before the number and the white space, or "" if that is all
 *
 * Return: the number; 0 if there is none; -errno, -ENODATA if there is no @key.
 */
long proc_number(const char *path, const char *key);

#endif /* MESH_PROC_H */
