/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * proc.h: what the kernel prints.
 */
#ifndef MESH_PROC_H
#define MESH_PROC_H

#include <stddef.h>

/**
 * proc_read() - read the beginning of a file in /proc
 * @path: the file
 * @text: receives it, and a NUL
 * @size: bytes that fit
 *
 * Return: bytes read or -errno.
 */
long proc_read(const char *path, char *text, size_t size);

/**
 * proc_number() - read a number from a file in /proc
 * @path: the file; only its first 4 KiB are looked at
 * @key: what stands before the number and the white space, or "" if that is all
 *
 * Return: the number; 0 if there is none; -errno, -ENODATA if there is no @key.
 */
long proc_number(const char *path, const char *key);

/**
 * proc_main_status() - with what status has the main thread ended?
 *
 * Return: 0 to 255, 128 more than its number for a signal; -1 while it is there or /proc is not.
 */
int proc_main_status(void);

#endif /* MESH_PROC_H */
