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
	sed 's/^/info: /' err
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

# refused SYSCALL ERROR WORD: the workload runs where the system call is refused. With
# the module it meshes, and exactly one line names what is refused and why.
refused()
{
	by_memfd || watch_merges
	run_verbose "$HELPERS/deny" "$1" "$2"
	have_module && ! by_memfd || return 0
	must_have_merged
	[ "$(grep -c "$3" err)" -eq 1 ] || fail "not exactly one line names $3"
	[ -z "$(sort err | uniq -d)" ] || fail "a line is repeated"
}
