/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * model.h: a backend that really merges pages, without the kernel module.
 *
 * Arena pages are pages of a memfd, mapped one by one, so that two virtual pages
 * can be made to show the same file page. Slow, needs many mappings, and is not
 * safe against writers: for tests only.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

/* Let @src's pages show those of @dst, the live slots of @src copied over. */
void model_merge(void *src, void *dst, unsigned int pages, unsigned int slot_size,
		 const uint64_t live[4]);

/* File pages that some virtual page shows and that were written to. */
unsigned int model_pages(void);

/* The next @n purges fail. */
extern unsigned int model_fail_purges;

/* Calls of purge so far. */
extern unsigned int model_purges;

#endif /* MODEL_H */
