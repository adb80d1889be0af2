# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: pinned pages
# slow
# timeout: 60
#
# What the kernel reads into objects by direct I/O, or has of them in a pipe, is right although
# their pages are merged meanwhile.

. "$PROGRAMS/lib.sh"

export MESH_START_KIB=0 MESH_PERIOD_MS=1
watch_merges
mesh "$HELPERS/pinned" "$PWD/file" "$(pick 4 2)" >out
sed 's/^/info: /' out
must_have_merged
