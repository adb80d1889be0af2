#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# splat.sh LOG - look for kernel errors in a console log.
#
# Prints what it found, one line each, and exits 1; exits 0 on a clean log, 2 on misuse. A log
# without the final "reboot: Power down" is an error too: a machine that died silently must not
# pass for a clean one.
#
# Only kernel messages count. A crash of a user program is logged as well ("segfault at",
# "traps: ... general protection fault ip:"), but tests may provoke that on purpose.

set -eu

# One extended regular expression per line; matched after the time stamp has been cut off.
patterns()
{
	cat <<-'END'
		^BUG:
		^kernel BUG at
		^-+\[ cut here \]-+
		^WARNING:
		^(watchdog|NMI watchdog): .*(BUG|LOCKUP)
		^INFO: task .* blocked for more than
		^INFO: (rcu_|possible |trying to register|lockdep )
		^rcu: INFO:
		^rcu: .*kthread (starved|timer wakeup)
		^Oops[: ]
		\[#[0-9]+\]
		^Call Trace:
		^Kernel panic
		^Bad (page|rss-counter|swap)
		^page dumped because
		^general protection fault[,:]
		^(traps: )?(PANIC: |double fault: )
		^[Uu]nable to handle
		^UBSAN:
		^(KASAN|KCSAN|KFENCE|KMSAN):
		^kmemleak: [1-9].* suspected memory leak
		^unreferenced object
		^refcount_t:
		^list_(add|del) corruption
		^kmem_cache_destroy
		^usercopy: Kernel memory
		^sysfs: cannot create duplicate
		nobody cared
		page allocation failure
		invoked oom-killer
	END
}

# A process that is killed at the limit of a memory cgroup called *oom-expected was meant to be: the
# first line of the kernel's report and its call trace are not errors. Other lines in it still are.
without_expected_kills()
{
	awk '
		{ line[NR] = $0 }
		/invoked oom-killer/ { first = NR }
		/^oom-kill:constraint=CONSTRAINT_MEMCG.*,oom_memcg=[^,]*oom-expected,/ && first {
			line[first] = ""
			for (i = first; i < NR; i++)
				if (line[i] ~ /^Call Trace:/)
					line[i] = ""
			first = 0
		}
		END { for (i = 1; i <= NR; i++) print line[i] }'
}

main()
{
	local log=$1 found

	if [ ! -r "$log" ]; then
		echo "splat: cannot read $log" >&2
		return 2
	fi
	found=$(tr -d '\r' < "$log" |
		sed -E 's/^(\[ *[0-9]+\.[0-9]+\])(\[ *[TC][0-9]+\])? ?//' |
		without_expected_kills | grep -a -n -E -f <(patterns) || true)
	if [ -n "$found" ]; then
		printf '%s\n' "$found" | sed 's/^/splat: line /'
		return 1
	fi
	if ! grep -a -q 'reboot: Power down' "$log"; then
		echo "splat: the machine did not power down"
		return 1
	fi
}

if [ $# -ne 1 ]; then
	echo "usage: $0 LOG" >&2
	exit 2
fi
main "$1"
