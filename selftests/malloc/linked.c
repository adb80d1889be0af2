/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/*
 * Linked with libmesh.so. Allocates before the constructors of other libraries, and of libc, as
 * sanitizers do.
 */
#include "check.h"

static void first(void)
{
	free(opaque(malloc(100)));
}

__attribute__((section(".preinit_array"), used)) static void (*run_first)(void) = first;

int main(void)
{
	free(opaque(malloc(100)));
	return 0;
}
