#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# demo.sh [--keys N] [--kernel 6.12|6.1|7.3] [--native] [--results DIR] [--jemalloc]
#
# The Redis experiment of the Mesh paper, end to end: boots a kernel in a virtual
# machine (or uses this one, --native), loads meshhelper.ko, and loads redis-server
# once on glibc's malloc and once on libmesh.so (with --jemalloc once more, on what
# Debian links it with). Prints a table, draws PSS over time,
# and ends with one line. Everything measured is kept in build/demo/.
#
# Exit code: 0 all well; 1 a value read back is wrong, or PSS is above 0.80 of
# glibc's at full size on 6.12, or the demo could not be run.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
build=${MESH_BUILD:-$top/build}
full=700000
keys=$full
kernel=6.12
native=
allocators="glibc mesh"
results=$build/demo

usage()
{
	sed -n '/^# demo.sh/,/^$/s/^# \{0,1\}//p' "$0"
	exit "$1"
}

die()
{
	echo "demo: $*" >&2
	exit 1
}

while [ $# -gt 0 ]; do
	case $1 in
	--keys) keys=${2?$1 wants a value}; shift 2 ;;
	--kernel) kernel=${2?$1 wants a value}; shift 2 ;;
	--native) native=yes; shift ;;
	--results) results=${2?$1 wants a value}; shift 2 ;;
	--jemalloc) allocators="glibc jemalloc mesh"; shift ;;
	--help) usage 0 ;;
	*) usage 2 >&2 ;;
	esac
done
[ "$keys" -ge 7000 ] || die "--keys must be at least 7000"

need()
{
	[ -e "$1" ] || die "$1 is missing: run ./run build"
}

check_native()
{
	[ -e /proc/modules ] ||
		die "--native: this kernel ($(uname -r)) cannot load modules; leave --native out"
	[ -e "/lib/modules/$(uname -r)/build" ] ||
		die "--native: no kernel headers for $(uname -r); install linux-headers-$(uname -r)"
	[ "$(id -u)" -eq 0 ] || die "--native: insmod needs root"
	command -v redis-server >/dev/null || die "--native: redis-server is missing: ./run deps"
	cmake --build "$build" --target kmod >&2
	kernel=$(uname -r)
}

run_guest()
{
	local module runs

	read -r -a runs <<<"$allocators"

	if [ -n "$native" ]; then
		check_native
		module=$build/kmod/meshhelper.ko
		need "$module"
		"$here/guest.sh" --keys "$keys" --module "$module" --out "$results" \
			--build "$build" --allocators "$allocators"
	else
		module=$build/kmod-$kernel/meshhelper.ko
		need "$module"
		echo "demo: booting Linux $kernel in a virtual machine"
		# shellcheck disable=SC2016 # expanded in the machine
		"$top/selftests/vm/vm.sh" --kernel "$kernel" --rootfs --no-module --mem 2048 \
			--timeout $((900 * ${#runs[@]})) --out "$results" -- \
			sh -c 'exec "$MESH_TOP/selftests/demo/guest.sh" --out "$MESH_OUT" "$@"' \
			sh --keys "$keys" --module "$module" --allocators "$allocators"
	fi
}

# value RUN NAME: a number of a run's result; 0 if it has none.
value()
{
	sed -n "s/^$2=//p" "$results/$1.result" | tail -n 1 | grep . || echo 0
}

mb()
{
	awk -v kb="$1" 'BEGIN { printf "%.1f", kb / 1024 }'
}

# row TEXT NAME: a line of the table.
row()
{
	local run

	printf '  %-34s' "$1"
	for run in $allocators; do
		printf ' %10s' "$(value "$run" "$2")"
	done
	echo
}

# row_per UNIT TEXT NAME: the same in UNITs, with the ratio of the last to glibc.
row_per()
{
	local run

	printf '  %-34s' "$2"
	for run in $allocators; do
		printf ' %10s' "$(awk -v n="$(value "$run" "$3")" -v unit="$1" \
			'BEGIN { printf "%.1f", n / unit }')"
	done
	awk -v a="$(value glibc "$3")" -v b="$(value mesh "$3")" \
		'BEGIN { printf " %8s\n", a ? sprintf("%.2f", b / a) : "" }'
}

# row_mb TEXT NAME: kB, shown as MB.
row_mb()
{
	row_per 1024 "$@"
}

print_table()
{
	printf '\n  %-34s' "Linux $(cat "$results/kernel"), $keys keys"
	# shellcheck disable=SC2086 # a column for each word
	printf ' %10s' $allocators
	printf ' %8s\n' ratio
	row_mb 'PSS after load, MB' pss_load
	row_mb 'PSS after idle, MB' pss_idle
	row_mb 'RSS after idle, MB' rss_idle
	row_mb 'cgroup memory after load, MB' cgroup_load
	row_mb 'cgroup memory after idle, MB' cgroup_idle
	row_per 1048576 'used_memory after idle, MB' used
	row 'PSS / used_memory after idle' pss_of_used
	row_per 1000 'processor time of the server, s' cpu_idle
	row 'pages meshed after load' meshed_load
	row 'pages meshed after idle' meshed_idle
	row_mb 'PSS saved says the module, MB' saved_idle
	row 'mappings after idle' maps_idle
	row 'values read back' checked
	row 'values wrong' wrong
	echo
}

print_last_line()
{
	local a b

	a=$(value glibc pss_idle)
	b=$(value mesh pss_idle)
	printf 'demo: PSS glibc %s MB, mesh %s MB (%s %%), ' "$(mb "$a")" "$(mb "$b")" \
		"$(awk -v a="$a" -v b="$b" 'BEGIN { printf "%+.1f", a ? 100 * b / a - 100 : 0 }')"
	printf '%s pages meshed, %s mappings, %s of %s values wrong\n' \
		"$(value mesh meshed_idle)" "$(value mesh maps_idle)" \
		"$(value mesh wrong)" "$(value mesh checked)"
}

# Judge first and print last: the last line of the output is always the summary.
judge()
{
	local run bad=0

	for run in glibc mesh; do
		if [ "$(value $run wrong)" -ne 0 ] || [ "$(value $run checked)" -eq 0 ]; then
			echo "demo: the values read back under $run are not right"
			bad=1
		fi
	done
	if [ "$keys" -ge $full ] && [ "${kernel#6.12}" != "$kernel" ] &&
	   ! awk -v a="$(value glibc pss_idle)" -v b="$(value mesh pss_idle)" \
		'BEGIN { exit !(b <= 0.80 * a) }'; then
		echo "demo: PSS is above 0.80 of glibc's"
		bad=1
	fi
	return $bad
}

main()
{
	local bad=0

	need "$build/user/libmesh.so"
	need "$build/selftests/demo/sample"
	need "$build/selftests/bench/redis-load"
	rm -rf "$results"
	mkdir -p "$results"
	if [ "$keys" -ne $full ]; then
		echo "demo: scaled from $full to $keys keys, maxmemory and fill2 in proportion:" \
			"the numbers are not those of the full experiment"
	fi
	run_guest 2>&1 | tee "$results/output"
	[ "${PIPESTATUS[0]}" -eq 0 ] || die "the run did not end well, see $results/output"
	print_table
	judge || bad=1
	"$here/plot.sh" "$results"
	echo "demo: kept in $results: pss.svg, pss.png, samples, counters, logs"
	print_last_line
	return $bad
}

main
