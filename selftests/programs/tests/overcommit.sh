# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: strict overcommit
# slow
# timeout: 120
#
# With vm.overcommit_memory=2, where all that may be written to is charged in advance,
# programs start and work, and a heap full of holes is meshed.

. "$PROGRAMS/lib.sh"
need python3
change_setting /proc/sys/vm/overcommit_memory 2
export MESH_START_KIB=0
watch_merges
mesh "$BENCH/fragment" --objects 60000 --free 80 --max 256 --idle 0 --trim \
	--until-merged "$(patience)"
must_have_merged
[ "$(mesh python3 -c 'print(sum(range(1000)))')" = 499500 ] || fail "python3"
