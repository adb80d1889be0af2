#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# exports.sh MAP - the library exports what its map says and nothing else, needs no C++ runtime, and
# reaches its thread-local data without calls.

set -eu

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
nm -D --defined-only "$MESH_LIB" | awk '{ print $NF }' | sort > "$dir/got"
sed -n 's/^\t\([A-Za-z_][A-Za-z_0-9]*\);$/\1/p' "$1" | sort > "$dir/expected"
diff "$dir/expected" "$dir/got" >&2

readelf -d "$MESH_LIB" > "$dir/dynamic"
if grep -E 'NEEDED.*(libstdc|libgcc)' "$dir/dynamic" >&2; then
	exit 1
fi
grep -q 'FLAGS.*STATIC_TLS' "$dir/dynamic"
nm -D --undefined-only "$MESH_LIB" > "$dir/undefined"
if grep -E ' (__tls_get_addr|malloc|free|calloc|realloc)(@|$)' "$dir/undefined" >&2; then
	exit 1
fi
