# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: signals of the application
# slow
# timeout: 120
#
# Every signal is the program's while it is meshed, and what it executes has none blocked.

. "$PROGRAMS/lib.sh"

export MESH_START_KIB=0 MESH_PERIOD_MS=1
argument=
! can_merge || argument=$(patience)
mesh "$HELPERS/signals" ${argument:+"$argument"} >out
[ "$(grep -cE '^Sig(Blk|Ign):[[:space:]]*0+$' out)" -eq 2 ] || fail "$(cat out)"
