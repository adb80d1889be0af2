#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# sleeper.sh LIBMESH SLEEPER [BACKEND] - a sleeping and a writing program get smaller, with
# every way to keep writers out and every loop. BACKEND is helper, which needs
# /dev/meshhelper, or memfd, which needs userfaultfd and Linux 6.8. Prints TAP.

set -u
lib=$1
sleeper=$2
export MESH_BACKEND="${3:-helper}"
n=0
failed=0
out=$(mktemp -d)
log=$out/log
trap 'rm -rf "$out"' EXIT

# check NAME ENVIRONMENT... -- SLEEPER-ARGS...
check()
{
	name=$1
	shift
	settings=
	while [ "$1" != -- ]; do
		settings="$settings $1"
		shift
	done
	shift
	n=$((n + 1))
	# shellcheck disable=SC2086 # settings are words
	if env $settings MESH_STATS=1 MESH_VERBOSE=1 LD_PRELOAD="$lib" \
		"$sleeper" "$@" > "$log" 2>&1
	then
		echo "ok $n $name"
	else
		echo "not ok $n $name # exit code $?"
		failed=1
		sed 's/^/# /' "$log"
	fi
	grep -E '^sleeper|^libmesh: no|merged|left alone|longest|spent' "$log" |
		sed 's/^/# /'
}

# Does the backend say that it cannot merge?
refusal=$(MESH_VERBOSE=1 LD_PRELOAD="$lib" "$sleeper" -n 50000 -t 1 2>&1 |
	sed -n 's/^libmesh: no meshing: //p')
if [ -n "$refusal" ]; then
	echo "1..0 # SKIP $refusal"
	exit 0
fi

# The memfd backend has one way only, which takes much longer on emulated processors: each
# page has to be forgotten by all of them.
protections=zap
seconds=10
drop=30
case ${MESH_IN_VM:-}-$MESH_BACKEND-$(uname -r) in
tcg-memfd-*) protections=auto seconds=40 drop=10 ;;
*-memfd-*) protections=auto ;;
*-helper-6.[0-6].*) ;;
*) protections="uffd zap" ;;
esac

# Starting is what races with the growth of the heap: do it often.
start_often()
{
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		MESH_START_KIB=1024 LD_PRELOAD="$lib" "$sleeper" -n 40000 -t 0 || return 1
	done
}

for protect in $protections; do
	for loop in uring poll; do
		check "sleeper_${protect}_$loop" "MESH_PROTECT=$protect" "MESH_LOOP=$loop" -- \
			-t "$seconds" -d 40
	done
	check "writers_$protect" "MESH_PROTECT=$protect" -- -t "$seconds" -d "$drop" -w 2
	check "children_$protect" "MESH_PROTECT=$protect" -- -n 50000 -t 5 -w 1 -k 15
	check "locked_$protect" "MESH_PROTECT=$protect" -- -n 50000 -t 8 -d 20 -l 1000
	check "pages_of_many_$protect" "MESH_PROTECT=$protect" -- \
		-n 60000 -s 700 -t "$seconds" -d "$drop" -w 2
done

# Memory is short in the cgroup of a sleeper: what it has an hour for, it does at once.
group=/sys/fs/cgroup/mesh-sleeper-$$

# shellcheck disable=SC2016 # sh -c "$enter" "$group" COMMAND... - as a member of the cgroup
enter='echo 0 > "$0/cgroup.procs" && exec "$@"'

# Wait until the sleeper sleeps and a descriptor of the thread named mesh is the trigger.
await_trigger()
{
	for _ in $(seq 60); do
		sleep 1
		# shellcheck disable=SC2010,SC2012 # names that /proc makes
		if grep -q asleep "$log" &&
			ls -l /proc/"$1"/task/*/fd | grep -q "$group/memory.pressure"
		then
			return 0
		fi
	done
	return 1
}

# More than the cgroup may have, for a while.
press()
{
	echo $(($(cat "$group/memory.current") + 1048576)) > "$group/memory.high"
	sh -c "$enter" "$group" timeout 6 sh -c 'head -c 32M /dev/zero | tail -c 32M > /dev/null'
	echo max > "$group/memory.high"
}

sleep_under_pressure()
{
	sh -c "$enter" "$group" env MESH_PERIOD_MS=3600000 MESH_STATS=1 LD_PRELOAD="$lib" \
		"$sleeper" -t "$seconds" -d 40 > "$log" 2>&1 &
	pid=$!
	await_trigger $pid && for _ in 1 2 3 4 5 6 7 8 9 10; do
		press
		sleep "$seconds"
		kill -0 $pid 2> /dev/null || break
	done
	wait $pid
}

# A cgroup to press. What a machine's own ones may have is not changed, a virtual machine's is.
make_group()
{
	[ -z "${MESH_IN_VM:-}" ] || echo +memory > /sys/fs/cgroup/cgroup.subtree_control
	mkdir "$group" && [ -e "$group/memory.pressure" ] && [ -e "$group/memory.high" ]
}

n=$((n + 1))
if ! make_group 2> /dev/null; then
	echo "ok $n pressure # SKIP no cgroup v2 with memory and pressure of its own"
elif sleep_under_pressure; then
	echo "ok $n pressure"
else
	echo "not ok $n pressure"
	failed=1
	sed 's/^/# /' "$log"
fi
rmdir "$group" 2> /dev/null

check "defaults" "MESH_BACKEND=$MESH_BACKEND" -- -s 400 -t "$seconds" -d "$drop" -w 1
n=$((n + 1))
if start_often; then
	echo "ok $n start_often"
else
	echo "not ok $n start_often"
	failed=1
fi
echo "1..$n"
exit $failed
