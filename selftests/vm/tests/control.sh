#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# control.sh [KERNEL] - the machine itself, without our module, in TAP.
#
# Each kernel must survive a load on memory, processes and files with a clean log: only then is a
# splat with the module loaded the module's fault. And vm.sh must notice when a machine goes wrong.
# With KERNEL: only whether that one is clean; its time limit is for the slowest, one for debugging.

set -u
here=$(dirname "$(readlink -f "$0")")
vm=$here/../vm.sh
count=0
# shellcheck source=selftests/vm/kernels.sh
. "$here/../kernels.sh"

load='stress-ng --quiet --malloc 1 --vm 1 --vm-bytes 64m --fork 1 --shm 1 --futex 1 --timeout 15'

# expect NAME STATUS OPTIONS...: run a machine, compare its exit code.
expect()
{
	local name=$1 wanted=$2 status output

	shift 2
	output=$("$vm" "$@" 2>&1)
	status=$?
	count=$((count + 1))
	if [ $status -eq "$wanted" ]; then
		echo "ok $count - $name"
	else
		printf '%s\n' "$output" | sed 's/^/# /'
		echo "not ok $count - $name: $status instead of $wanted"
	fi
}

# clean KERNEL TIMEOUT: a machine under load, a clean log.
clean()
{
	# shellcheck disable=SC2086 # a list of words
	expect "clean under load: $1" 0 --kernel "$1" --no-module --rootfs --timeout "$2" -- $load
}

echo 'TAP version 13'
if [ $# -gt 0 ]; then
	echo '1..1'
	clean "$1" 1200
	exit
fi
echo "1..$((${#kernels[@]} + 4))"
for kernel in "${kernels[@]}"; do
	clean "$kernel" 600
done
expect 'exit code of the command' 7 --no-module -- sh -c 'exit 7'
expect 'kernel crash is noticed' 125 --no-module -- sh -c 'echo c > /proc/sysrq-trigger'
expect 'hanging machine is noticed' 124 --no-module --timeout 12 -- sleep 1000
expect 'module that does not load is noticed' 125 --module /dev/null -- true
