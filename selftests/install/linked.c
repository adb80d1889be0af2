// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
/*
 * A program that was built with what is installed: is its malloc that of libmesh.so, and
 * are the headers of use by themselves?
 */
#include <linux/meshhelper.h>
#include <mesh.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE	1000

int main(void)
{
	size_t before = 0, after = 0, len = sizeof(before);
	char *object;

	if (mesh_mallctl("stats.allocated", &before, &len, NULL, 0))
		return 1;
	object = malloc(SIZE);
	if (!object || mesh_mallctl("stats.allocated", &after, &len, NULL, 0))
		return 1;
	if (after < before + SIZE)
		return 1;
	free(object);
	return sizeof(struct meshhelper_pair) == 64 ? 0 : 1;
}
