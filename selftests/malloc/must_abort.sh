#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# must_abort.sh MISUSE CASE - the case ends by SIGABRT, and standard error is the line it announced.

set -eu

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0
env LD_PRELOAD="$MESH_LIB" "$1" "$2" > "$dir/expected" 2> "$dir/raw" || status=$?
grep -v '^Aborted$' "$dir/raw" > "$dir/got" || :	# which the shell says
if [ $status -ne 134 ]; then
	echo "$2: status $status, not 134 (SIGABRT)" >&2
	exit 1
fi
diff "$dir/expected" "$dir/got" >&2
