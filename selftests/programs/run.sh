#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# run.sh [--preload LIB] [--backend helper|memfd|none] [--native | --vm [--kernel 6.12|6.1|7.3]]
#        [--list] [--all] [--traps] [NAME...]
#
# Run real programs, unchanged, with libmesh.so preloaded, and check what they print.
# Output is TAP. --native (the default) runs them here, with the module if it is
# loaded; --vm boots a virtual machine with the module and runs them there.
#
# A test is a file tests/NAME.sh, run by bash in an empty directory of its own with
# lib.sh at hand: exit code 0 is a pass, 4 a skip whose reason is the last line of the
# output, all else a failure. Its header may say "# timeout: SECONDS" (default 60;
# several times that under emulation). Lines "info: ..." are shown also for a pass.
# Those with a line "# trap: ..." are what --traps runs: what has gone wrong in other
# allocators that mesh. Those with a line "# slow" are left out under emulation, unless they
# are asked for by name, --traps or --all.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
build=${MESH_BUILD:-$top/build}
export IN_VM=${MESH_IN_VM:-}
preload=
where=native
kernel=6.12
backend=
all=
names=()

usage()
{
	sed -n '/^# run.sh/,/^$/s/^# \{0,1\}//p' "$0"
	exit "$1"
}

# tests_with [-L] REGEX: the names of those that have such a line, or with -L have none.
tests_with()
{
	(cd "$here/tests" && grep -l "$@" ./*.sh) | sed 's,^./,,; s,.sh$,,'
}

list_tests()
{
	if [ "$IN_VM" = tcg ] && [ -z "$all" ]; then
		tests_with -L '^# slow$'
	else
		tests_with .
	fi
}

while [ $# -gt 0 ]; do
	case $1 in
	--preload) preload=${2?$1 wants a value}; shift 2 ;;
	--backend) backend=${2?$1 wants a value}; shift 2 ;;
	--kernel) kernel=${2?$1 wants a value}; shift 2 ;;
	--vm) where=vm; shift ;;
	--native) where=native; shift ;;
	--list) list_tests; exit 0 ;;
	--all) all=--all; shift ;;
	--traps) mapfile -t -O ${#names[@]} names < <(tests_with '^# trap: '); shift ;;
	--help) usage 0 ;;
	--*) usage 2 >&2 ;;
	*) names+=("$1"); shift ;;
	esac
done

if [ $where = vm ]; then
	if [ -n "$preload" ]; then
		set -- --copy "$(readlink -f "$preload")" -- \
			"$here/run.sh" --preload "$(readlink -f "$preload")"
	else
		set -- -- "$here/run.sh"
	fi
	exec "$top/selftests/vm/vm.sh" --kernel "$kernel" --rootfs --mem 2048 --timeout 900 \
		"$@" ${backend:+--backend "$backend"} $all "${names[@]}"
fi

export PRELOAD=${preload:-$build/user/libmesh.so}
PRELOAD=$(readlink -f "$PRELOAD" || true)
[ -e "$PRELOAD" ] || { echo "run.sh: no library to preload; ./run build" >&2; exit 2; }
export PROGRAMS=$here HELPERS=$build/selftests/programs BENCH=$build/selftests/bench
export MALLOC=$build/selftests/malloc SLEEPER=$build/selftests/unit-mesher/sleeper
export LC_ALL=C.UTF-8
# What the library is told is up to the tests, and it would name variables that are not its own.
unset LD_PRELOAD "${!MESH_@}"
[ -z "$backend" ] || export MESH_BACKEND=$backend

# An emulated processor is many times slower; tests take less work and get more time.
export SLOW=
scale=1
if [ "$IN_VM" = tcg ]; then
	SLOW=yes
	scale=4
	echo "# emulated processor: smaller workloads, time limits times $scale"
fi

[ ${#names[@]} -gt 0 ] || mapfile -t names < <(list_tests)
for name in "${names[@]}"; do
	[ -e "$here/tests/$name.sh" ] || { echo "run.sh: no test $name" >&2; exit 2; }
done

passed=0
failed=0
skipped=0
number=0
work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

timeout_of()
{
	local seconds

	seconds=$(sed -n 's/^# timeout: //p' "$here/tests/$1.sh")
	echo $((${seconds:-60} * scale))
}

# Nothing that a test started may outlive it: each has a session of its own.
run_test()
{
	local name=$1 rc=0

	mkdir "$work/$name"
	(
		cd "$work/$name"
		# shellcheck disable=SC2016 # expanded by the shell that becomes the test
		setsid --wait bash -c 'echo $$ >"$0"; exec "$@"' "$work/session" \
			timeout --kill-after=5 "$(timeout_of "$name")" \
			bash "$here/tests/$name.sh" >"$work/$name.out" 2>&1 </dev/null
	) || rc=$?
	end_session "$(cat "$work/session")"
	return $rc
}

# end_session ID: kill what is left of it. In /proc/PID/stat the name in parentheses may
# hold anything; the session is the fourth word after it.
end_session()
{
	local stat text

	for stat in /proc/[0-9]*/stat; do
		text=$(cat "$stat" 2>/dev/null) || continue
		# shellcheck disable=SC2086
		set -- "$1" ${text##*) }
		[ "$5" != "$1" ] ||
			kill -KILL "$(basename "$(dirname "$stat")")" 2>/dev/null || true
	done
}

report()
{
	local name=$1 rc=$2 seconds=$3 out=$work/$1.out

	number=$((number + 1))
	case $rc in
	0)
		passed=$((passed + 1))
		sed -n 's/^info: /# /p' "$out"
		echo "ok $number - $name # $seconds s"
		;;
	4)
		skipped=$((skipped + 1))
		echo "ok $number - $name # SKIP $(tail -n 1 "$out")"
		;;
	*)
		failed=$((failed + 1))
		tail -n 60 "$out" | sed 's/^/# /'
		[ "$rc" -ne 124 ] || echo "# $name: not finished after $(timeout_of "$name") s"
		echo "not ok $number - $name # exit code $rc, $seconds s"
		;;
	esac
}

echo "TAP version 13"
echo "1..${#names[@]}"
echo "# $PRELOAD, Linux $(uname -r)"
for name in "${names[@]}"; do
	start=$SECONDS
	rc=0
	run_test "$name" || rc=$?
	report "$name" $rc $((SECONDS - start))
done
echo "# programs: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
