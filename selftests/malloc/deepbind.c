/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * deepbind LIBRARY INNER - a library that is opened with RTLD_DEEPBIND has the program's malloc,
 * and what it opens itself is looked for where it says
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "check.h"

int main(int argc, char **argv)
{
	void *(*exchange)(void *);
	int (*open_inner)(const char *);
	void *lib;

	CHECK(argc == 3);
	CHECK(!dlopen(argv[2], RTLD_NOW));
	CHECK(dlerror());
	lib = dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND);
	CHECK(lib);
	exchange = (void *(*)(void *))dlsym(lib, "deep_exchange");
	open_inner = (int (*)(const char *))dlsym(lib, "deep_open");
	CHECK(exchange && open_inner);
	for (size_t size = 1; size < 100000; size *= 3)
		free(exchange(malloc(size)));
	CHECK(open_inner(argv[2]) == 0);
	CHECK(!dlopen(argv[2], RTLD_NOW));
	CHECK(dlclose(lib) == 0);
	return 0;
}
