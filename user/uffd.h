/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * uffd.h: write-protect pages so that the next write is noticed, not refused.
 *
 * A userfaultfd with WP_ASYNC (Linux 6.7): the kernel itself lifts the protection
 * on the first write, after the module has heard of it. Nobody ever has to read
 * the descriptor, so no thread ever waits for us.
 *
 * Threads: the daemon's, which owns the descriptor.
 */
#ifndef MESH_UFFD_H
#define MESH_UFFD_H

#include <stddef.h>
#include <stdint.h>

/**
 * uffd_open() - get a userfaultfd that can do asynchronous write protection
 *
 * Return: 0 or -errno; -EOPNOTSUPP if the kernel has none.
 */
int uffd_open(void);

/**
 * uffd_cover() - make sure that what is mapped in a range can be protected
 * @addr: start of the range
 * @len: bytes; the range may reach beyond the end of a mapping, but cuts one in
 *	two where it ends inside of it
 *
 * May be repeated.
 *
 * Return: 0 or -errno.
 */
int uffd_cover(uintptr_t addr, size_t len);

/**
 * uffd_protect() - write-protect [@addr, @addr + @len)
 *
 * Return: 0 or -errno.
 */
int uffd_protect(uintptr_t addr, size_t len);

void uffd_close(void);

#endif /* MESH_UFFD_H */
