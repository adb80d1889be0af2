/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * The basic C++ operators, under their mangled names, so that the library needs no
 * C++ runtime.
 *
 * The other forms (array, sized, nothrow) are the runtime's, which calls the basic
 * ones: a program may have replaced just these, and then expects all of its memory
 * to come from there.
 *
 * What happens when memory is out (new_handler, bad_alloc, or a null pointer) is
 * the business of the runtime the program has: its own version of the same
 * operator is called. That one allocates by malloc or aligned_alloc, which are
 * ours. An exception it throws passes through here (-fexceptions).
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "alloc.h"
#include "message.h"

typedef void *(*new_fn)(size_t);
typedef void *(*new_aligned_fn)(size_t, size_t);

/* The runtime may have been loaded late and out of the global scope. */
static void *runtime_symbol(const char *name)
{
	static const char *const runtimes[] = { "libstdc++.so.6", "libc++.so.1" };

	for (size_t i = 0; i < ARRAY_SIZE(runtimes); i++) {
		void *lib = dlopen(runtimes[i], RTLD_LAZY | RTLD_NOLOAD);
		void *sym = lib ? dlsym(lib, name) : NULL;

		if (sym)
			return sym;
	}
	return NULL;
}

_Noreturn MESH_COLD static void no_runtime(size_t size)
{
	fatal("operator new: no memory for %zu bytes, and no C++ runtime to throw", size);
}

MESH_COLD static void *new_failed(const char *name, size_t size)
{
	new_fn fn = (new_fn)runtime_symbol(name);

	if (!fn)
		no_runtime(size);
	return fn(size);
}

MESH_COLD static void *new_aligned_failed(const char *name, size_t size, size_t align)
{
	new_aligned_fn fn = (new_aligned_fn)runtime_symbol(name);

	if (!fn)
		no_runtime(size);
	return fn(size, align);
}

#define NEW(mangled) \
	MESH_EXPORT void *mangled(size_t size); \
	MESH_EXPORT void *mangled(size_t size) \
	{ \
		void *p = alloc(size); \
		return likely(p) ? p : new_failed(#mangled, size); \
	}

#define NEW_ALIGNED(mangled) \
	MESH_EXPORT void *mangled(size_t size, size_t align); \
	MESH_EXPORT void *mangled(size_t size, size_t align) \
	{ \
		void *p = alloc_aligned(align, size); \
		return likely(p) ? p : new_aligned_failed(#mangled, size, align); \
	}

/* An alignment tells us nothing that the page table does not know. */
#define DELETE(mangled, ...) \
	MESH_EXPORT void mangled(void *p, ##__VA_ARGS__); \
	MESH_EXPORT void mangled(void *p, ##__VA_ARGS__) \
	{ \
		release(p); \
	}

NEW(_Znwm)
NEW_ALIGNED(_ZnwmSt11align_val_t)

DELETE(_ZdlPv)
DELETE(_ZdlPvSt11align_val_t, __attribute__((unused)) size_t align)
