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

# A library of its own, for these programs have the sources of the library in them.
sanitizers()
{
	cmake -S "$top" -B "$build/sanitize" -DMESH_SANITIZE=ON &&
		cmake --build "$build/sanitize" -j "$(nproc)" --target unit-tests &&
		ctest --test-dir "$build/sanitize" -L unit --output-on-failure
}

cd "$top" || exit 1
echo 'TAP version 13'
check clang-tidy tidy
check cppcheck cpp
check sanitizers sanitizers
echo "1..$count"
