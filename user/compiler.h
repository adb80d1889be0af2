/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* Names for what C11 leaves to the compiler. */
#ifndef MESH_COMPILER_H
#define MESH_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#define MESH_EXPORT	__attribute__((visibility("default")))
/* Another name of an exported function. Only gcc warns when its attributes are others. */
#if __has_attribute(copy)
#define MESH_ALIAS(fn)	__attribute__((alias(#fn), copy(fn)))
#else
#define MESH_ALIAS(fn)	__attribute__((alias(#fn)))
#endif
#define MESH_ALSO(name, fn)	MESH_EXPORT extern __typeof__(fn) name MESH_ALIAS(fn)

#define MESH_NOINLINE	__attribute__((noinline))
#define MESH_COLD	__attribute__((noinline, cold))

/* Thread-local data is reached with one instruction; dlopen(3) is not supported. */
#define MESH_TLS	__thread __attribute__((tls_model("initial-exec")))

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define PAGE_SHIFT	12
#define PAGE_SIZE	((size_t)1 << PAGE_SHIFT)
#define PAGE_MASK	(~(PAGE_SIZE - 1))

/* @x rounded up to a multiple of @a, a power of two; 0 when that overflows. */
static inline size_t round_up(size_t x, size_t a)
{
	return (x + a - 1) & ~(a - 1);
}

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

/*
 * For zeros that even a short process needs: they are in the page of what is not zero, which
 * the dynamic linker has touched, not in one of .bss.
 */
#define MESH_EARLY	__attribute__((section(".data")))

#endif /* MESH_COMPILER_H */
