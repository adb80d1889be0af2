#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# valgrind.sh TOOL PROGRAM [OPTION...] - run it with libmesh.so ($MESH_LIB), whose thread is
# started at once, under a tool of valgrind's, which is given the options.
#
# The program must end well, valgrind must have nothing to say, and it must have been libmesh.so
# that gave it memory, not what valgrind has instead of malloc.

set -eu
if ! command -v valgrind > /dev/null; then
	echo 'SKIP valgrind is not installed'
	exit 77
fi
tool=$1
program=$2
shift 2
dir=$(mktemp -d)
trap 'head -n 20 "$dir"/*; rm -r "$dir"' EXIT

# Without a backend, as valgrind does not know of userfaultfd().
LD_PRELOAD=$MESH_LIB MESH_BACKEND=none MESH_START_KIB=0 MESH_STATS=1 timeout -s KILL 50 \
	valgrind -q --tool="$tool" --error-exitcode=9 --log-file="$dir/valgrind" "$@" "$program" \
	> "$dir/out" 2> "$dir/err"
# A thread cache that has refilled its bins.
grep -q '^ *32 .* [1-9][0-9]* ' "$dir/err"
[ ! -s "$dir/valgrind" ]
