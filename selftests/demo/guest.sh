#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# guest.sh - the part of the demo that runs on the kernel with the module, as root.
#
#	guest.sh --keys N --module FILE --out DIR [--build DIR] [--allocators LIST]
#
# Loads the module, runs the Redis load under each allocator of the list ("glibc mesh"; there
# is Debian's jemalloc, too), with a fresh server in a cgroup of its own, and unloads the
# module. Leaves in DIR for each NAME in the list:
#	NAME.csv	samples of PSS, RSS, cgroup memory and pages meshed
#	NAME.phases	"seconds name" for the start of each phase, same clock
#	NAME.result	name=value lines, the numbers of the table
#	NAME.log	what the server said
#	NAME.bindings	which library the server's allocation functions come from
# and counters, the module's sysfs directory after each run.
#
# Debian's redis-server is linked with libjemalloc, dynamically. Preloading libc.so.6 puts
# glibc's malloc before it in the order of symbol lookup, so that the glibc run is really
# glibc's; NAME.bindings and /proc/PID/maps are checked for that in both runs.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=${MESH_BUILD:-$here/../../build}
keys=700000
module=
out=
sysfs=/sys/class/misc/meshhelper
cgroups=
started=$(cut -d ' ' -f 1 /proc/uptime)
server=
sampler=
loaded=
allocators="glibc mesh"

while [ $# -gt 0 ]; do
	case $1 in
	--allocators) allocators=$2 ;;
	--keys) keys=$2 ;;
	--module) module=$2 ;;
	--out) out=$2 ;;
	--build) build=$2 ;;
	*) echo "guest.sh: unknown option $1" >&2; exit 2 ;;
	esac
	shift 2
done

work=$(mktemp -d)
socket=$work/redis.sock
maxmemory=$((keys * 100 * 1024 * 1024 / 700000))

uptime_now()
{
	cut -d ' ' -f 1 /proc/uptime
}

say()
{
	awk -v now="$(uptime_now)" -v start="$started" -v text="$*" \
		'BEGIN { printf "[%6.1f s] %s\n", now - start, text }'
}

die()
{
	say "demo failed: $*"
	exit 1
}

# Busybox has the module tools where kmod is not installed.
module_tool()
{
	if command -v "$1" >/dev/null; then
		"$@"
	else
		/.mesh/busybox "$@"
	fi
}

load_module()
{
	say "insmod $(basename "$module")"
	module_tool insmod "$module" || die "the module does not load"
	loaded=yes
	say "/dev/meshhelper is there: $(ls -l /dev/meshhelper)"
}

unload_module()
{
	loaded=
	say "rmmod meshhelper"
	module_tool rmmod meshhelper || die "the module does not unload"
}

cleanup()
{
	# shellcheck disable=SC2086
	[ -z "$server$sampler" ] || kill $server $sampler 2>/dev/null || true
	[ -z "$loaded" ] || module_tool rmmod meshhelper 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT

# All counters of the module, whatever they are called.
print_counters()
{
	local file

	for file in "$sysfs"/*; do
		case $file in
		*/dev | */uevent) continue ;;
		esac
		[ ! -f "$file" ] ||
			printf '  %-28s %s\n' "$(basename "$file")" "$(cat "$file")"
	done
}

# number_in FILE: what it says; 0 if there is no such file.
number_in()
{
	cat "$1" 2>/dev/null || echo 0
}

preload_of()
{
	case $1 in
	glibc) ldconfig -p | sed -n 's/.*libc\.so\.6 (libc6,x86-64.*=> //p' | head -n 1 ;;
	jemalloc) ldconfig -p | sed -n 's/.*libjemalloc\.so\.2 (libc6,x86-64.*=> //p' |
		head -n 1 ;;
	mesh) readlink -f "$build/user/libmesh.so" ;;
	esac
}

# Let the dynamic linker tell where the server's malloc comes from.
check_bindings()
{
	local name=$1 lib=$2 symbol

	LD_PRELOAD=$lib LD_BIND_NOW=1 LD_DEBUG=bindings LD_DEBUG_OUTPUT=$work/bindings \
		redis-server --version >"$work/version"
	grep -hE 'binding file [^ ]*redis-server .*`(malloc|calloc|realloc|free)'\' \
		"$work"/bindings.* | sed 's/^ *[0-9]*:[[:space:]]*//' >"$out/$name.bindings"
	rm -f "$work"/bindings.*
	for symbol in malloc calloc realloc free; do
		grep "\`$symbol'" "$out/$name.bindings" | grep -q " to $lib " ||
			die "$symbol of redis-server is not $lib's"
	done
	say "$name: malloc, calloc, realloc, free of redis-server are bound to $lib"
}

start_server()
{
	local name=$1 lib=$2 group=$cgroups/mesh-demo-$1 try

	mkdir -p "$group"
	# shellcheck disable=SC2016
	sh -c 'echo $$ >"$1/cgroup.procs"; lib=$2; shift 2; LD_PRELOAD=$lib exec "$@"' \
		sh "$group" "$lib" redis-server --port 0 --unixsocket "$socket" --dir "$work" \
		--save '' --maxmemory "$maxmemory" --maxmemory-policy allkeys-lru \
		--jemalloc-bg-thread no >"$out/$name.log" 2>&1 &
	server=$!
	for try in $(seq 600); do
		[ ! -S "$socket" ] || break
		kill -0 $server 2>/dev/null ||
			die "redis-server ended: $(tail -n 3 "$out/$name.log")"
		sleep 0.1
	done
	redis-cli -s "$socket" ping >/dev/null || die "redis-server does not answer ($try tries)"
	grep -q "$lib" /proc/$server/maps || die "$lib is not mapped by redis-server"
	say "$name: $(sed "s, sha=.*,," "$work/version") runs as pid $server"
	"$build/selftests/demo/sample" $server "$group" "$sysfs" 200 >"$out/$name.csv" &
	sampler=$!
}

stop_server()
{
	redis-cli -s "$socket" shutdown nosave >/dev/null 2>&1 || true
	wait $server || true
	wait $sampler || true
	server=
	sampler=
	rmdir "$cgroups/mesh-demo-$1" 2>/dev/null || true
}

phase()
{
	echo "$(uptime_now) $2" >>"$out/$1.phases"
	say "$1: $2"
}

load()
{
	"$build/selftests/bench/redis-load" --socket "$socket" --keys "$keys" --phase "$1"
}

# note NAME WHEN: add the current sizes to the result.
note()
{
	{
		awk -v when="$2" '/^Pss:/ { print "pss_" when "=" $2 }
			/^Rss:/ { print "rss_" when "=" $2 }' /proc/$server/smaps_rollup
		awk -v when="$2" -v hz="$(getconf CLK_TCK)" '{
			sub(/.*[)] /, "")
			print "cpu_" when "=" ($12 + $13) * 1000 / hz
		}' /proc/$server/stat
		echo "cgroup_$2=$(($(number_in "$cgroups/mesh-demo-$1/memory.current") / 1024))"
		echo "maps_$2=$(wc -l </proc/$server/maps)"
		echo "meshed_$2=$(number_in $sysfs/pages_meshed)"
		echo "saved_$2=$(($(number_in $sysfs/pss_bytes_saved) / 1024))"
	} >>"$out/$1.result"
}

# What PSS is of what Redis thinks that it uses.
note_share()
{
	local share

	share=$(awk -F= '{ v[$1] = $2 }
		END { printf "%.2f", v["pss_idle"] * 1024 / v["used"] }' "$out/$1.result")
	echo "pss_of_used=$share" >>"$out/$1.result"
}

# The PSS that was sampled last, in kB.
pss_now()
{
	tail -n 1 "$out/$1.csv" | cut -d , -f 2
}

# How long the idle phase has lasted, in whole seconds.
idle_time()
{
	awk -v now="$(uptime_now)" '$2 == "idle" { printf "%d", now - $1 }' "$out/$1.phases"
}

# Has PSS moved by less than 0.5 % within the last 6 s? It is never quite still: other
# programs that come and go share the pages of libraries.
is_stable()
{
	awk -F, -v now="$(uptime_now)" '
		NR > 1 && $1 > now - 6 {
			if (!n++ || $2 > max)
				max = $2
			if (n == 1 || $2 < min)
				min = $2
		}
		END { exit !(n > 5 && max - min < 0.005 * max) }' "$out/$1.csv"
}

# At least 10 s, at most 30 s.
wait_until_stable()
{
	local name=$1 report=5

	while [ "$(idle_time "$name")" -lt 30 ]; do
		sleep 1
		if [ "$(idle_time "$name")" -ge 10 ] && is_stable "$name"; then
			break
		fi
		if [ "$(idle_time "$name")" -ge $report ]; then
			report=$((report + 5))
			say "$name: idle, PSS $(pss_now "$name") kB," \
				"$(number_in $sysfs/pages_meshed) pages meshed"
		fi
	done
	say "$name: PSS $(pss_now "$name") kB after idling for $(idle_time "$name") s"
}

verify()
{
	load verify | tee "$work/verify"
	awk '/^verify: / { print "checked=" $3 "\nmissing=" $5 "\nwrong=" $7 }' "$work/verify" \
		>>"$out/$1.result"
}

run_one()
{
	local name=$1 lib

	lib=$(preload_of "$name")
	[ -e "$lib" ] || die "no library to preload for $name"
	rm -f "$out/$name".*
	check_bindings "$name" "$lib"
	start_server "$name" "$lib"
	phase "$name" fill1
	load fill1
	phase "$name" fill2
	load fill2
	note "$name" load
	phase "$name" idle
	wait_until_stable "$name"
	note "$name" idle
	redis-cli -s "$socket" info memory | tr -d '\r' | sed -n 's/^used_memory:/used=/p' \
		>>"$out/$name.result"
	note_share "$name"
	say "$name: the module's counters"
	print_counters | tee "$out/$name.counters"
	phase "$name" verify
	verify "$name"
	phase "$name" end
	stop_server "$name"
}

# Where cgroups of version 2 with a memory controller are. Version 1 is not tried: then
# the table has zeroes, and a line says why.
find_cgroups()
{
	cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	if [ -z "$cgroups" ] || ! { echo +memory >"$cgroups/cgroup.subtree_control"; } 2>/dev/null
	then
		say "no cgroup v2 memory controller here: cgroup memory is not measured"
		cgroups=$work
	fi
}

main()
{
	local name

	mkdir -p "$out"
	uname -r >"$out/kernel"
	say "kernel $(uname -r), $(nproc) processors, $keys keys, maxmemory $maxmemory bytes"
	find_cgroups
	load_module
	for name in $allocators; do
		run_one "$name"
	done
	unload_module
}

main
