/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * A library that malloc-deepbind opens so that it finds the C library's functions first. It frees
 * what others have allocated, and the other way round, and opens a library that only its own
 * RUNPATH tells of.
 */
#include <dlfcn.h>
#include <stdlib.h>

void *deep_exchange(void *p);
int deep_open(const char *name);

void *deep_exchange(void *p)
{
	free(p);
	return malloc(100);
}

int deep_open(const char *name)
{
	void *lib = dlopen(name, RTLD_NOW);

	return lib ? dlclose(lib) : -1;
}
