# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash
#
# degrade.sh - for the tests in which something that the library would use is missing;
# sourced after lib.sh.

# Enough small objects, with holes, for the meshing thread to start.
workload=("$BENCH/fragment" --objects 100000 --free 60 --idle 1)

# run_verbose [LAUNCHER...]: the workload, its standard error in the file err; it must
# succeed. A launcher runs without the library, so that every line is the workload's.
run_verbose()
{
	MESH_VERBOSE=1 "$@" env LD_PRELOAD="$PRELOAD" "${workload[@]}" >out 2>err || {
		cat out err
		fail "the program did not run"
	}
	sed -n 's/^libmesh: /info: &/p' err
}

# degraded REGEX [LAUNCHER...]: the workload runs, and MESH_VERBOSE=1 prints one line
# that matches. Without the helper there may be one on why memfd does not work, either.
degraded()
{
	local regex=$1

	shift
	run_verbose "$@"
	[ "$(grep -cvE '^libmesh: (no meshing: no |memory pressure)' err)" -eq 1 ] ||
		fail "not exactly one line"
	grep -qE "$regex" err || fail "no line matches $regex"
	[ -z "$(sort err | uniq -d)" ] || fail "a line is repeated"
}

# refused SYSCALL ERROR WORD: the workload runs where the system call is refused, and exactly
# one line names what is refused and why. It is merged all the same, by other means. Where
# memfd is not permitted to use userfaultfd, a device is the other means, of which there is
# nothing to be said; else there is no meshing.
refused()
{
	local line=$3 count=1 merges=yes
	local workload=("${workload[@]}")

	if by_memfd && [ "$1 $2" = "userfaultfd EPERM" ] && [ -w /dev/userfaultfd ]; then
		count=0
	elif by_memfd && [ "$1" = userfaultfd ]; then
		line="^libmesh: no meshing: no $3" merges=
	fi
	[ -z "$merges" ] || workload+=(--until-merged "$(patience)")
	watch_merges
	run_verbose "$HELPERS/deny" "$1" "$2"
	can_merge || return 0
	[ "$(grep -c "$line" err)" -eq $count ] || fail "not $count lines match $line"
	[ -z "$(grep '^libmesh: ' err | sort | uniq -d)" ] || fail "a line is repeated"
	[ -n "$merges" ] || return 0
	! by_memfd || cp err workload.log
	must_have_merged
}
