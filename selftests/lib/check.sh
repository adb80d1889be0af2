#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# check.sh - what reads the library's code, and its unit tests with the compiler's sanitizers; TAP.
# Wants clang-tidy, cppcheck, and what ./run build has made in $MESH_BUILD.

set -u
top=$(realpath "$(dirname "$(readlink -f "$0")")/../..")
build=${MESH_BUILD:-$top/build}
count=0

# check NAME COMMAND...: one TAP line; the output of a failure is shown.
check()
{
	local name=$1 log=$build/check-$1.log

	shift
	count=$((count + 1))
	if "$@" > "$log" 2>&1; then
		echo "ok $count - $name"
	else
		grep -v '^[0-9]* warnings\? ' "$log" | tail -n 50 | sed 's/^/# /'
		echo "not ok $count - $name"
	fi
}

tidy()
{
	printf '%s\n' user/*.c |
		xargs -n 1 -P "$(nproc)" clang-tidy -p "$build" --quiet
}

# no_runtime() does not return, which cppcheck does not see.
cpp()
{
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability \
		--suppress=nullPointerRedundantCheck:user/cxx.c -D__x86_64__ -Iuapi user
}

# Libraries of their own, for these programs have the sources of the library in them.
sanitizers()
{
	cmake -S "$top" -B "$build/sanitize" -DMESH_SANITIZE=address,undefined &&
		cmake --build "$build/sanitize" -j "$(nproc)" --target unit-tests &&
		ctest --test-dir "$build/sanitize" -L unit --output-on-failure
}

# Not unit-park, which stops threads between two instructions of a fast path, and not unit-mesh
# and unit-huge, whose mappings are where the sanitizer has its tables. It wants no randomized
# addresses.
thread_sanitizer()
{
	local test

	cmake -S "$top" -B "$build/sanitize-thread" -DMESH_SANITIZE=thread &&
		cmake --build "$build/sanitize-thread" -j "$(nproc)" --target unit-tests || return 1
	for test in races lock central pageheap tcache transfer; do
		TSAN_OPTIONS=suppressions=$top/selftests/unit/tsan.supp setarch -R \
			"$build/sanitize-thread/selftests/unit/unit-$test" || return 1
	done
}

cd "$top" || exit 1
echo 'TAP version 13'
check clang-tidy tidy
check cppcheck cpp
check sanitizers sanitizers
check thread-sanitizer thread_sanitizer
echo "1..$count"
