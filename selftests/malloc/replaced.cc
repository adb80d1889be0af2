// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
//
// A program that replaces only the basic operator new and delete, and puts a header in front of
// every object: the array, nothrow and sized forms must come to its own functions, too.
#include <algorithm>
#include <cstdlib>
#include <new>
#include <vector>

#include "check.h"

static const std::size_t header = 16;
static long objects;

void *operator new(std::size_t n)
{
	char *p = static_cast<char *>(std::malloc(n + header));

	if (!p)
		throw std::bad_alloc();
	objects++;
	return p + header;
}

void operator delete(void *p) noexcept
{
	if (!p)
		return;
	objects--;
	std::free(static_cast<char *>(p) - header);
}

int main()
{
	for (int i = 0; i < 1000; i++) {
		int *volatile one = new int(1);
		int *volatile many = new int[100];
		int *volatile quiet = new (std::nothrow) int(2);

		CHECK(objects == 3);
		delete one;
		delete[] many;
		::operator delete(quiet, sizeof(int));
		CHECK(objects == 0);

		std::vector<int> v(1000, 1);
		std::stable_sort(v.begin(), v.end());
	}
	CHECK(objects == 0);
	return 0;
}
