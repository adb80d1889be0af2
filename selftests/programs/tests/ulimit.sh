# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: address space limits
# slow
# timeout: 120
#
# Under ulimit -v, which a library that reserves address space runs into, programs start and
# work, and a heap full of holes is meshed.

. "$PROGRAMS/lib.sh"
need python3

ulimit -v 400000
export MESH_START_KIB=0
watch_merges
mesh "$BENCH/fragment" --objects 60000 --free 80 --max 256 --idle 0 --trim \
	--until-merged "$(patience)"
must_have_merged
[ "$(mesh python3 -c 'print(sum(range(1000)))')" = 499500 ] || fail "python3"
