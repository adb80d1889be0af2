// SPDX-License-Identifier: MIT
// SPDX-FileCopyrightText: The Mesh authors
//
// All forms of operator new and delete come from the library, and do what the standard says when
// memory is out: call the new_handler, throw bad_alloc, or return null.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <malloc.h>
#include <new>
#include <string>
#include <vector>

#include "check.h"

static const std::size_t too_much = static_cast<std::size_t>(1) << 62;
static int handler_calls;

struct alignas(256) Wide {
	char c[256];
};

struct Give_up {};

static bool is_aligned(const void *p, std::size_t align)
{
	return reinterpret_cast<std::uintptr_t>(p) % align == 0;
}

static void check_plain()
{
	for (std::size_t n : { 0, 1, 100, 5000, 50000, 3000000 }) {
		void *p = operator new(hide(n)), *q = operator new[](hide(n));

		CHECK(p && q && p != q);
		CHECK(malloc_usable_size(p) >= n);
		memset(p, 1, n);
		memset(q, 2, n);
		operator delete(p);
		operator delete[](q);
		p = operator new(hide(n), std::nothrow);
		q = operator new[](hide(n), std::nothrow);
		CHECK(p && q);
		operator delete(p, std::nothrow);
		operator delete[](q, std::nothrow);
		p = operator new(hide(n));
		q = operator new[](hide(n));
		operator delete(p, n);
		operator delete[](q, n);
	}
}

static void check_aligned()
{
	for (std::size_t a = 16; a <= 65536; a *= 4) {
		std::align_val_t align{ a };
		void *p = operator new(hide(100), align), *q = operator new[](hide(100), align);

		CHECK(is_aligned(p, a) && is_aligned(q, a));
		operator delete(p, align);
		operator delete[](q, align);
		p = operator new(hide(100), align, std::nothrow);
		q = operator new[](hide(100), align, std::nothrow);
		CHECK(p && q && is_aligned(p, a) && is_aligned(q, a));
		operator delete(p, align, std::nothrow);
		operator delete[](q, align, std::nothrow);
		p = operator new(hide(100), align);
		q = operator new[](hide(100), align);
		operator delete(p, 100, align);
		operator delete[](q, 100, align);
	}
	Wide *w = new Wide[3];
	CHECK(is_aligned(w, 256));
	delete[] w;
}

template <typename F> static bool throws_bad_alloc(F f)
{
	try {
		opaque(f());
	} catch (const std::bad_alloc &) {
		return true;
	}
	return false;
}

static void check_failure()
{
	const std::align_val_t align{ 64 };

	CHECK(throws_bad_alloc([] { return operator new(hide(too_much)); }));
	CHECK(throws_bad_alloc([] { return operator new[](hide(too_much)); }));
	CHECK(throws_bad_alloc([=] { return operator new(hide(too_much), align); }));
	CHECK(throws_bad_alloc([=] { return operator new[](hide(too_much), align); }));
	CHECK(!operator new(hide(too_much), std::nothrow));
	CHECK(!operator new[](hide(too_much), std::nothrow));
	CHECK(!operator new(hide(too_much), align, std::nothrow));
	CHECK(!operator new[](hide(too_much), align, std::nothrow));
}

static void handler()
{
	if (++handler_calls == 3)
		std::set_new_handler(nullptr);
}

static void throwing_handler()
{
	throw std::bad_alloc();
}

static void other_handler()
{
	throw Give_up();
}

static void check_handler()
{
	std::set_new_handler(handler);
	CHECK(throws_bad_alloc([] { return operator new(hide(too_much)); }));
	CHECK(handler_calls == 3);
	handler_calls = 0;
	std::set_new_handler(handler);
	CHECK(!operator new(hide(too_much), std::nothrow));
	CHECK(handler_calls == 3);
	std::set_new_handler(throwing_handler);
	CHECK(!operator new(hide(too_much), std::nothrow));
	std::set_new_handler(other_handler);
	bool gave_up = false;
	try {
		opaque(operator new(hide(too_much)));
	} catch (const Give_up &) {
		gave_up = true;
	}
	CHECK(gave_up);
	std::set_new_handler(nullptr);
}

// The test is of the library only if the operators are the library's.
static void check_origin()
{
	Dl_info info;
	void *(*fn)(std::size_t) = operator new;

	CHECK(dladdr(reinterpret_cast<void *>(fn), &info));
	CHECK(strstr(info.dli_fname, "libmesh"));
}

static void check_containers()
{
	std::vector<std::string> v;

	for (int i = 0; i < 100000; i++)
		v.push_back(std::string(i % 100, 'x') + std::to_string(i));
	for (int i = 0; i < 100000; i++)
		CHECK(v[i].size() == i % 100 + std::to_string(i).size());
}

int main()
{
	check_origin();
	check_plain();
	check_aligned();
	check_failure();
	check_handler();
	check_containers();
	return 0;
}
