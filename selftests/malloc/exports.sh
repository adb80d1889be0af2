#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# exports.sh MAP - the library exports what its map says and nothing else, needs no C++ runtime, and
# reaches its thread-local data without calls. What starts and ends a millisecond later is not
# made to ask the processor for its features, nor to copy more than one page of data.

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

nm "$MESH_LIB" > "$dir/symbols"
if grep __cpu_indicator_init "$dir/symbols" >&2; then
	exit 1
fi
readelf -SW "$MESH_LIB" | sed 's/^ *\[ *[0-9]*\] //' > "$dir/sections"
size=$(awk '$1 == ".data" { print $5 }' "$dir/sections")
echo "bytes of .data: 0x$size"
[ $((0x$size)) -le 4096 ]
