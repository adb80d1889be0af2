# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: forks without handlers
# timeout: 150
#
# Forks by system call, without the handlers of the C library, while the heap is meshed:
# the child has all of it as it was, and the parent nothing of what the child writes.

. "$PROGRAMS/lib.sh"

export MESH_START_KIB=0 MESH_PERIOD_MS=1
watch_merges
mesh "$HELPERS/raw-clone" "$(pick 100 15)" "$(patience)"
must_have_merged
