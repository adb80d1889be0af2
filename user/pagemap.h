/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * pagemap.h: what the kernel says about single pages of this process.
 *
 * Threads: the daemon's, which owns the descriptor.
 */
#ifndef MESH_PAGEMAP_H
#define MESH_PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int pagemap_open(void);
void pagemap_close(void);

/**
 * pagemap_all_file() - are the pages of a range present, and those of a file?
 * @addr: first page
 * @len: bytes, a few pages
 *
 * In a private mapping they are not once they have been written to.
 */
bool pagemap_all_file(uintptr_t addr, size_t len);

/**
 * pagemap_none_shared() - is no page mapped by another process, too?
 * @addr: start of a range of anonymous memory
 * @len: bytes, at most 16 pages
 *
 * Of what is swapped out that is not known, so the answer is no.
 */
bool pagemap_none_shared(uintptr_t addr, size_t len);

#endif /* MESH_PAGEMAP_H */
