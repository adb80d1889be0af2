/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* A program of known contents, for statistics.sh. */
#include <malloc.h>

#include "check.h"

static void *keep[3000];

int main(int argc, char **argv)
{
	(void)argv;
	for (int i = 0; i < 3000; i++)
		keep[i] = malloc((size_t)(i % 700) + 1);
	for (int i = 0; i < 3000; i += 3)
		free(keep[i]);
	keep[0] = malloc(100000);
	keep[3] = malloc(50000000);
	if (argc > 1)
		return malloc_info(0, stdout);
	malloc_stats();
	return 0;
}
