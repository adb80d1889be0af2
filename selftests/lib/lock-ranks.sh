#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# lock-ranks.sh BUILD - what a program may expect of malloc, by a library that aborts on a lock
# that is taken out of order (MESH_DEBUG), in TAP. It is built in BUILD/locks, without the module's
# tests.

set -eu
here=$(dirname "$(readlink -f "$0")")
dir=$1/locks
log=$1/test/locks-build.log

mkdir -p "$1/test"
{
	cmake -S "$here/../.." -B "$dir" -DMESH_DEBUG=ON -DMESH_WERROR=ON -DMESH_KSFT=none &&
		cmake --build "$dir" -j "$(nproc)"
} > "$log" 2>&1 || {
	tail -n 20 "$log" | sed 's/^/# /'
	printf '1..1\nnot ok 1 the library builds\n'
	exit 1
}
exec "$here/ctest-tap" "$dir" -L malloc
