#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# Run one load program under several allocators and print a table of ratios.
#
# The program's last line must be "result: name=value name=value ...". The runs
# are interleaved (one round of all allocators, then the next round), so that a
# machine that gets slower or faster meanwhile treats all of them alike. The table
# has the median of each value and its ratio to libmesh's; values named *wrong* must
# be 0 everywhere. mesh-off is libmesh that does not merge, and runs only if named.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=${MESH_BUILD:-$here/../../build}
rounds=3
mesh=$build/user/libmesh.so
only=
spread=0

usage()
{
	cat <<-END
	usage: compare.sh [--rounds N] [--mesh LIB] [--only NAME,NAME] [--spread]
	                  PROGRAM [ARG...]
	  PROGRAM is a path, or the name of a program of selftests/bench
	  allocators: glibc jemalloc mimalloc tcmalloc mesh-off mesh
	  --spread    a second table, with the least and the greatest of each value
	END
	exit "$1"
}

while [ $# -gt 0 ]; do
	case $1 in
	--rounds) rounds=${2?$1 wants a value}; shift 2 ;;
	--mesh) mesh=${2?$1 wants a value}; shift 2 ;;
	--only) only=,$2,; shift 2 ;;
	--spread) spread=1; shift ;;
	--help) usage 0 ;;
	--*) usage 2 >&2 ;;
	*) break ;;
	esac
done
[ $# -gt 0 ] || usage 2 >&2

program=$1
shift
[ "${program#*/}" != "$program" ] || program=$build/selftests/bench/$program
[ -x "$program" ] || { echo "compare.sh: no program $program" >&2; exit 2; }

library_of()
{
	local libs

	libs=/usr/lib/$(uname -m)-linux-gnu

	case $1 in
	glibc) ;;
	jemalloc) echo "$libs"/libjemalloc.so.2 ;;
	mimalloc) echo "$libs"/libmimalloc.so.2.0 ;;
	tcmalloc) echo "$libs"/libtcmalloc_minimal.so.4 ;;
	mesh | mesh-off) echo "$mesh" ;;
	esac
}

settings_of()
{
	case $1 in
	mesh-off) echo MESH_BACKEND=none ;;
	esac
}

allocators=
for name in glibc jemalloc mimalloc tcmalloc mesh-off mesh; do
	[ -z "$only" ] && [ $name = mesh-off ] && continue
	[ -z "$only" ] || [ "${only#*,"$name",}" != "$only" ] || continue
	lib=$(library_of $name)
	if [ -n "$lib" ] && [ ! -e "$lib" ]; then
		echo "# $name left out: $lib does not exist"
		continue
	fi
	allocators="$allocators $name"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for round in $(seq "$rounds"); do
	for name in $allocators; do
		# shellcheck disable=SC2046 # no setting is no word
		if ! env $(settings_of "$name") LD_PRELOAD="$(library_of "$name")" \
			"$program" "$@" >"$work/out" 2>&1; then
			echo "compare.sh: $(basename "$program") failed under $name:" >&2
			cat "$work/out" >&2
			exit 1
		fi
		grep '^result: ' "$work/out" | tail -n 1 | tr ' ' '\n' | grep '=' |
			sed "s/^/$name=/" >>"$work/values"
		echo "# round $round of $rounds: $name done"
	done
done

# name=metric=value lines to a table; the ratio is to mesh, or to the first column.
awk -F= -v allocators="$allocators" -v spread="$spread" '
	function sort(name, metric,    i, j, t) {
		nv = count[name, metric]
		for (i = 1; i <= nv; i++)
			v[i] = value[name, metric, i] + 0
		for (i = 2; i <= nv; i++)
			for (j = i; j > 1 && v[j] < v[j - 1]; j--) {
				t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
			}
	}
	function median(name, metric) {
		sort(name, metric)
		return nv % 2 ? v[(nv + 1) / 2] : (v[nv / 2] + v[nv / 2 + 1]) / 2
	}
	function header(what,    i) {
		printf "%-17s", ""
		for (i = 1; i <= n; i++)
			printf " %19s", a[i]
		print "   (" what ")"
	}
	{
		if (!(($2) in known)) {
			known[$2] = 1
			metrics[++nr] = $2
		}
		value[$1, $2, ++count[$1, $2]] = $3
		if ($2 ~ /wrong/ && $3 != 0)
			bad = 1
	}
	END {
		n = split(allocators, a, " ")
		base = a[n] == "mesh" ? "mesh" : a[1]
		header("ratio to " base)
		for (m = 1; m <= nr; m++) {
			printf "%-17s", metrics[m]
			ref = median(base, metrics[m])
			for (i = 1; i <= n; i++) {
				x = median(a[i], metrics[m])
				ratio = ref ? sprintf("(%.2f)", x / ref) : "(-)"
				printf " %12.1f %6s", x, ratio
			}
			print ""
		}
		if (spread)
			header("least..greatest")
		for (m = 1; spread && m <= nr; m++) {
			printf "%-17s", metrics[m]
			for (i = 1; i <= n; i++) {
				sort(a[i], metrics[m])
				printf " %19s", sprintf("%.10g..%.10g", v[1], v[nv])
			}
			print ""
		}
		exit bad
	}' "$work/values"
