/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: The Mesh authors */
/* The table of huge objects: growth, deletion, alignment, moves. */
#include <sys/mman.h>

#include "huge.h"
#include "unit.h"

#define SIZE	((size_t)2 << 20)
#define MANY	3000

static void *object[MANY];

TEST(many)
{
	for (unsigned int i = 0; i < MANY; i++) {
		object[i] = huge_alloc(SIZE + i * 4096, 4096);
		CHECK(object[i]);
		*(unsigned int *)object[i] = i;
	}
	CHECK_EQ(huge_usage().objects, MANY);
	for (unsigned int i = 0; i < MANY; i += 3)
		huge_free(object[i]);
	for (unsigned int i = 0; i < MANY; i++) {
		if (i % 3 == 0)
			continue;
		CHECK_EQ(huge_size(object[i]), SIZE + i * 4096);
		CHECK_EQ(*(unsigned int *)object[i], i);
		huge_free(object[i]);
	}
	CHECK_EQ(huge_usage().objects, 0);
	CHECK_EQ(huge_usage().bytes, 0);
}

TEST(alignment)
{
	for (size_t align = 4096; align <= (size_t)1 << 30; align *= 4) {
		char *p = huge_alloc(SIZE, align);

		CHECK(p && (uintptr_t)p % align == 0);
		p[0] = p[SIZE - 1] = 1;
		huge_free(p);
	}
	CHECK(!huge_alloc(SIZE, (size_t)1 << 62));
}

TEST(reallocation_keeps_contents)
{
	char *p = huge_alloc(SIZE, 4096);

	p[0] = 1;
	p[SIZE - 1] = 2;
	p = huge_realloc(p, 100 * SIZE);
	CHECK(p && p[0] == 1 && p[SIZE - 1] == 2 && p[SIZE] == 0);
	CHECK_EQ(huge_size(p), 100 * SIZE);
	CHECK_EQ(huge_usage().objects, 1);
	CHECK(!huge_realloc(p, (size_t)1 << 60));
	CHECK(p[0] == 1);
	p = huge_realloc(p, SIZE);
	CHECK_EQ(huge_usage().bytes, SIZE);
	huge_free(p);
}

/* Neighbours are one mapping for the kernel, which may not be cut in two any more. */
TEST(memory_comes_back_without_mappings)
{
	const size_t room = 1 << 20;
	unsigned char present = 1;
	char *p[3], *many;

	for (unsigned int i = 0; i < 3; i++) {
		p[i] = huge_alloc(SIZE, 4096);
		p[i][0] = 1;
	}
	many = mmap(NULL, room * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
	CHECK(many != MAP_FAILED);
	for (size_t i = 0; i < room; i += 2)
		if (mprotect(many + i * 4096, 4096, PROT_READ))
			break;
	huge_free(p[1]);
	CHECK(mincore(p[1], 4096, &present) || !present);
	CHECK(p[0][0] == 1 && p[2][0] == 1);
	munmap(many, room * 4096);
	huge_free(p[0]);
	huge_free(p[2]);
}

TEST(wild_addresses)
{
	CHECK_EQ(huge_size((void *)0x1000), 0);
	CHECK(!huge_free((void *)0x1000));
}

UNIT_MAIN(UNIT(many), UNIT(alignment), UNIT(reallocation_keeps_contents),
	  UNIT(memory_comes_back_without_mappings), UNIT(wild_addresses))
