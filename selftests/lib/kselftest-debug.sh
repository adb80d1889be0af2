#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# kselftest-debug.sh DIR - kselftest.sh on a kernel built for debugging, and what that has to say.
#
# All is as on other kernels, only the timeouts are longer. The kernel's log, and leaks after the
# module is gone, are looked at outside; here it is asked for leaks while the module is loaded.

export MESH_TIMEOUT_FACTOR="${MESH_TIMEOUT_FACTOR:-10}"
status=0
count=0

# report NAME STATUS: one TAP line.
report()
{
	count=$((count + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $count $1"
	else
		echo "not ok $count $1"
		status=1
	fi
}

# Lock debugging ends with its first report, and is silent from then on.
lockdep_alive()
{
	grep -q 'debug_locks: *1' /proc/lockdep_stats
}

no_leaks()
{
	sh /.mesh/init leaks > /tmp/leaks && [ ! -s /tmp/leaks ]
}

"$(dirname "$0")/kselftest.sh" "$1" || status=1

echo 'TAP version 13'
lockdep_alive
report 'lockdep is alive after the tests' $?
no_leaks
report 'kmemleak finds nothing while the module is loaded' $?
sed 's/^/# /' /tmp/leaks
echo "1..$count"
exit $status
