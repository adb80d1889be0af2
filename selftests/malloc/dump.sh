#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# dump.sh PROGRAM - SIGUSR1 and SIGUSR2 print statistics when that was asked for, and only then; and
# never if the program handles them.

set -eu

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

run()
{
	env LD_PRELOAD="$MESH_LIB" "$@" 2> "$dir/log"
}

export MESH_DUMP_SIGNALS=1
run "$1" "$dir/log"
run "$1" "$dir/log" own
unset MESH_DUMP_SIGNALS

# SIGUSR1 ends a program that does nothing about it.
code=0
(run "$1" "$dir/log") 2> /dev/null || code=$?
if [ "$code" -le 128 ] || grep -q libmesh "$dir/log"; then
	echo "without the option: exit code $code" >&2
	cat "$dir/log" >&2
	exit 1
fi
