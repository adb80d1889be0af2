# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: shared futexes
# timeout: 300
#
# Threads that wait for robust mutexes in the heap, whose futexes the C library never marks
# private, get them when pages have been merged meanwhile.

. "$PROGRAMS/lib.sh"

export MESH_START_KIB=0
watch_merges
mesh "$HELPERS/robust"
must_have_merged
