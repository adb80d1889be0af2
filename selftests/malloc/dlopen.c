/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * dlopen LIBRARY - a library that allocates when it is loaded, in threads, and when it is unloaded
 * comes and goes; what it has allocated outlives it.
 */
#include <dlfcn.h>
#include <pthread.h>

#include "check.h"

#define ROUNDS	50
#define THREADS	4

static void *(*loaded_alloc)(size_t);

static void *use(void *arg)
{
	return loaded_alloc((size_t)arg);
}

static void use_in_threads(void *p[THREADS], size_t size)
{
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, use, (void *)size) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], &p[i]) == 0);
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	for (size_t size = 1; size < ROUNDS * 997; size += 997) {
		void *lib = dlopen(argv[1], RTLD_NOW);
		void *p[THREADS];

		CHECK(lib);
		loaded_alloc = (void *(*)(size_t))dlsym(lib, "loaded_alloc");
		CHECK(loaded_alloc);
		use_in_threads(p, size);
		CHECK(dlclose(lib) == 0);
		CHECK(!dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD));
		for (int i = 0; i < THREADS; i++) {
			CHECK(is_filled(p[i], size, 2));
			free(p[i]);
		}
	}
	return 0;
}
