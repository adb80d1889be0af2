/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * store.h: the files that merged spans are views of.
 *
 * Views are private: who writes to one gets a page of its own, and the file changes
 * only here. A process that was forked has the same views. What it may still see
 * must neither change nor go, whatever kind of fork it was, so after a fork the file
 * is left alone and a new one is begun; when the last relative is gone, what has
 * become unused in the old one is given back.
 *
 * Threads: the daemon's, which owns the descriptors.
 */
#ifndef MESH_STORE_H
#define MESH_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * store_open() - start without files of our own
 *
 * What is shown at the moment is in files of the parent, which stay as they are.
 *
 * Return: 0, or -errno if there can be none.
 */
int store_open(void);

/**
 * store_ready() - make sure that there is a file that may be written to
 *
 * Return: 0 or -errno.
 */
int store_ready(void);

/**
 * store_claim() - take a slot in the current file
 * @slot: its name
 * @nr: pages
 *
 * Return: whether it was free.
 */
bool store_claim(uint32_t slot, unsigned int nr);

/**
 * store_is_current() - is @slot in the file that may be written to?
 */
bool store_is_current(uint32_t slot);

/**
 * store_write() - write to a slot of the current file
 * @slot: the slot
 * @off: first byte in it
 * @buf: contents
 * @len: bytes
 *
 * Return: 0 or -errno.
 */
int store_write(uint32_t slot, size_t off, const void *buf, size_t len);

/**
 * store_map() - let a range show a slot of the current file
 * @addr: start of the range
 * @len: bytes
 * @slot: the slot
 *
 * Return: 0 or -errno.
 */
int store_map(uintptr_t addr, size_t len, uint32_t slot);

/**
 * store_tidy() - give back what nobody can see any more
 */
void store_tidy(void);

void store_close(void);

#endif /* MESH_STORE_H */
