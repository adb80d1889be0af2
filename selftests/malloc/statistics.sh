#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# statistics.sh PROGRAM - the sums that malloc_stats and MESH_STATS=1 print add up, and malloc_info
# writes one XML element in which every element is closed.

set -eu

# A line "= what N" is the sum of the "+" lines and the first line before it, less the "-" lines.
check_sums()
{
	awk '
	/^  [=+-] / || /^  [a-z]/ { n = $NF }
	/^[a-z]/ { sum = 0 }
	/^  [a-z]/ { sum = n }
	/^  \+/ { sum += n }
	/^  -/ { sum -= n }
	/^  =/ { sums++; if (n != sum) { print "not " sum ": " $0; bad = 1 } }
	END { if (sums < 5) { print sums " sums"; bad = 1 } exit bad }' "$1" >&2
}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

LD_PRELOAD=$MESH_LIB "$1" 2> "$dir/stats"
check_sums "$dir/stats"
LD_PRELOAD=$MESH_LIB MESH_STATS=1 "$1" xml > "$dir/xml" 2> "$dir/exit"
check_sums "$dir/exit"
grep -q '+ huge objects  *50003968$' "$dir/stats"
grep -q '+ large objects  *102400$' "$dir/stats"

awk '
{
	while (match($0, /<[^>]*>/)) {
		tag = substr($0, RSTART + 1, RLENGTH - 2)
		$0 = substr($0, RSTART + RLENGTH)
		split(tag, word, " ")
		if (tag ~ /^\//)
			ok = stack[depth--] == substr(tag, 2)
		else if (tag !~ /\/$/)
			stack[++depth] = word[1]
		if (tag ~ /^\// && !ok) { print "unexpected <" tag ">"; exit 1 }
		tags++
	}
}
END { if (depth || tags < 10) { print "depth " depth ", tags " tags; exit 1 } }' "$dir/xml" >&2
grep -q '^<malloc version=' "$dir/xml"
