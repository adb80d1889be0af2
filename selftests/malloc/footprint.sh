#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# footprint.sh PROGRAM - a program that hardly allocates has at most 1 MiB more resident with the
# library than without, one thread, and no open file of ours.

set -eu

"$1" > /dev/null		# brings its pages into the cache
read -r plain_kib _ plain_files <<EOF
$("$1")
EOF
read -r kib threads files <<EOF
$(LD_PRELOAD=$MESH_LIB "$1")
EOF
echo "resident KiB: glibc $plain_kib, mesh $kib; threads: $threads; files: $plain_files, $files"
[ $((kib - plain_kib)) -le 1024 ]
[ "$threads" -eq 1 ]
[ "$files" -eq "$plain_files" ]
