# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: a pass that holds locks
# slow
# timeout: 90
#
# Threads go on allocating and freeing while the meshing thread is stopped in a pass.

. "$PROGRAMS/lib.sh"

export MESH_START_KIB=0 MESH_PERIOD_MS=1
rc=0
mesh "$HELPERS/stopped" "$(pick 60 24)" >out || rc=$?
sed 's/^/info: /' out
[ $rc -ne 4 ] || skip "no tracing"
[ $rc -eq 0 ] || fail "stopped: exit code $rc"
