# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: no free, no meshing
# slow
# timeout: 180
#
# A process that has freed most of its objects and then sleeps gets smaller by itself.

. "$PROGRAMS/lib.sh"

refusal=$(MESH_VERBOSE=1 mesh "$SLEEPER" -n 50000 -t 1 2>&1 |
	sed -n 's/^libmesh: no meshing: //p')
[ -z "$refusal" ] || skip "$refusal"

watch_merges
mesh "$SLEEPER" -n "$(pick 200000 80000)" -t "$(pick 6 10)" -d 30 >out || fail "$(cat out)"
sed 's/^/info: /' out
must_have_merged
