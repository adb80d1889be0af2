#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# sleeper.sh LIBMESH SLEEPER - a sleeping and a writing program get smaller, with every way to keep
# writers out and every loop. Needs /dev/meshhelper; prints TAP.

set -u
lib=$1
sleeper=$2
n=0
failed=0

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
	if env $settings MESH_STATS=1 MESH_VERBOSE=1 LD_PRELOAD="$lib" "$sleeper" "$@" > /tmp/sleeper.log 2>&1
	then
		echo "ok $n $name"
	else
		echo "not ok $n $name # exit code $?"
		failed=1
		sed 's/^/# /' /tmp/sleeper.log
	fi
	grep -e '^sleeper' -e '^libmesh: no' -e 'merged' -e 'left alone' -e 'longest' -e 'spent' \
		/tmp/sleeper.log | sed 's/^/# /'
}

if [ ! -c /dev/meshhelper ]; then
	echo "1..0 # SKIP no /dev/meshhelper"
	exit 0
fi

protections=zap
case $(uname -r) in
6.[0-6].*) ;;
*) protections="uffd zap" ;;
esac

for protect in $protections; do
	for loop in uring poll; do
		check "sleeper_${protect}_$loop" MESH_PROTECT=$protect MESH_LOOP=$loop -- -t 10 -d 40
	done
	check "writers_$protect" MESH_PROTECT=$protect -- -t 10 -d 30 -w 2
	check "children_$protect" MESH_PROTECT=$protect -- -n 50000 -t 5 -w 1 -k 15
	check "pages_of_many_$protect" MESH_PROTECT=$protect -- -n 60000 -s 700 -t 10 -d 30 -w 2
done
check "defaults" MESH_BACKEND=helper -- -s 400 -t 10 -d 30 -w 1
echo "1..$n"
exit $failed
