# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash
#
# lib.sh - what the tests share; sourced. Set by run.sh: PRELOAD (the library under
# test), PROGRAMS (this directory), HELPERS, BENCH and MALLOC (where our C programs are),
# SLEEPER (one of them), IN_VM (how a virtual machine is accelerated, empty on a real one), SLOW
# (not empty under emulation). The current directory is empty and the test's own.

set -eu

sysfs=/sys/class/misc/meshhelper

# mesh COMMAND...: run it with the library preloaded.
mesh()
{
	LD_PRELOAD=$PRELOAD "$@"
}

fail()
{
	echo "failed: $*"
	exit 1
}

skip()
{
	echo "$*"
	exit 4
}

# need PROGRAM...: skip where one is not installed.
need()
{
	local program

	for program in "$@"; do
		command -v "$program" >/dev/null || skip "$program is not installed"
	done
}

# pick NORMAL SLOW: the size of a workload.
pick()
{
	echo "${SLOW:+$2}" | grep . || echo "$1"
}

# same FILE FILE: output with the library must be that without it.
same()
{
	cmp "$1" "$2" || { diff "$1" "$2" | head -n 20; fail "$2 differs from $1"; }
}

have_module()
{
	[ -c /dev/meshhelper ]
}

# Is there what merges pages?
can_merge()
{
	have_module || by_memfd
}

# The seconds for which a program is to wait for a merge, which comes much sooner on any machine
# that is not busy with other things.
patience()
{
	if can_merge; then
		echo 60
	else
		echo 0
	fi
}

merged_pages()
{
	cat "$sysfs/pages_merged_total" 2>/dev/null || echo 0
}

# change_setting FILE VALUE: until the test ends, in a virtual machine. A machine's own settings
# are not changed; the word in brackets is the present one where there is a choice of some.
settings=()
change_setting()
{
	[ -n "$IN_VM" ] || skip "the machine's own settings are not changed"
	[ -w "$1" ] || skip "there is no $1"
	settings+=("$1" "$(sed 's/.*\[\(.*\)\].*/\1/' "$1")")
	echo "$2" >"$1"
}

at_exit()
{
	local i

	[ ! -e stderr ] || cat stderr
	for ((i = 0; i < ${#settings[@]}; i += 2)); do
		echo "${settings[i + 1]}" >"${settings[i]}"
	done
}
trap at_exit EXIT

# The memfd backend has no counters outside of the process: what it prints at its end
# is on standard error, or in logs.
by_memfd()
{
	[ "${MESH_BACKEND:-}" = memfd ]
}

# Call before the work ...
watch_merges()
{
	merges_before=$(merged_pages)
	if by_memfd; then
		export MESH_STATS=1
		exec 2>stderr
	fi
}

merges_since()
{
	if by_memfd; then
		cat stderr ./*.log 2>/dev/null |
			awk '/^  pages given up by merges/ { n += $NF } END { print n + 0 }'
	else
		echo $(($(merged_pages) - merges_before))
	fi
}

# Has a process merged something by now? memfd shows a merged page in a mapping of a file.
has_merged()
{
	if by_memfd; then
		grep -q '/memfd:mesh ' "/proc/$1/maps"
	else
		[ "$(merges_since)" -gt 0 ]
	fi
}

# ... and after it: where pages can be merged, some must have been meanwhile.
must_have_merged()
{
	local n

	can_merge || return 0
	n=$(merges_since)
	echo "info: $n pages merged"
	[ "$n" -gt 0 ] || fail "the heap was full of holes and no page was merged"
}
