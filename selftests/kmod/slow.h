/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* What tests make of a kernel that is slow because it checks all that it does. */
#ifndef SELFTESTS_KMOD_SLOW_H
#define SELFTESTS_KMOD_SLOW_H

#include <stdlib.h>

/* How much slower than others this kernel is, which checks all that it does; 1 unless told. */
static inline unsigned int slow_factor(void)
{
	const char *factor = getenv("MESH_TIMEOUT_FACTOR");

	return factor && atoi(factor) > 0 ? atoi(factor) : 1;
}

/* As much of @n as takes about as long there; at least 1. */
static inline unsigned int scaled(unsigned int n)
{
	return n / slow_factor() ?: 1;
}

#endif /* SELFTESTS_KMOD_SLOW_H */
