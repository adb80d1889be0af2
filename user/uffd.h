/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * uffd.h: one userfaultfd, for whichever backend merges.
 *
 * The helper uses it to write-protect pages so that the next write is noticed, not
 * refused: with WP_ASYNC (Linux 6.7) the kernel itself lifts the protection, after
 * the module has heard of it. The memfd backend makes whoever touches a page that
 * is being merged wait, in user mode and in system calls alike, until it says
 * wake. Nobody ever reads the descriptor.
 *
 * Threads: the daemon's, which owns the descriptor.
 */
#ifndef MESH_UFFD_H
#define MESH_UFFD_H

#include <linux/types.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Younger than the headers of Debian 12. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE	(1 << 16)
#endif

/**
 * uffd_open() - get a userfaultfd
 * @features: UFFD_FEATURE_* that it must have
 * @kernel_faults: it must serve faults in system calls, too, which takes a privilege
 *
 * Return: 0 or -errno; -EOPNOTSUPP if the kernel lacks one of the features.
 */
int uffd_open(uint64_t features, bool kernel_faults);

/**
 * uffd_cover() - watch what is mapped in a range
 * @addr: start of the range
 * @len: bytes; the range may reach beyond the end of a mapping, but cuts one in
 *	two where it ends inside of it
 * @mode: UFFDIO_REGISTER_MODE_*
 *
 * May be repeated.
 *
 * Return: 0 or -errno.
 */
int uffd_cover(uintptr_t addr, size_t len, uint64_t mode);

/**
 * uffd_uncover() - undo uffd_cover() and any protection
 *
 * Return: 0 or -errno.
 */
int uffd_uncover(uintptr_t addr, size_t len);

/**
 * uffd_protect() - write-protect [@addr, @addr + @len)
 *
 * Return: 0 or -errno.
 */
int uffd_protect(uintptr_t addr, size_t len);

/**
 * uffd_move() - move private pages, unless something else refers to them
 * @to: a covered range of the same length without pages
 * @from: where they are; holes are skipped
 * @len: bytes
 * @moved: bytes that were moved, from the start on, whatever the result
 *
 * Wakes who waits for @to.
 *
 * Return: 0 or -errno: -EBUSY for a page that is pinned for I/O or shared with
 * another process, -EINVAL where the mapping is locked or protected otherwise.
 */
int uffd_move(uintptr_t to, uintptr_t from, size_t len, size_t *moved);

/**
 * uffd_copy() - fill the holes of a covered range
 * @to: the range
 * @from: what to fill it with
 * @len: bytes
 *
 * Return: 0 or -errno.
 */
int uffd_copy(uintptr_t to, const void *from, size_t len);

/**
 * uffd_wake() - let who waits for a page in a range try again
 */
void uffd_wake(uintptr_t addr, size_t len);

void uffd_close(void);

#endif /* MESH_UFFD_H */
