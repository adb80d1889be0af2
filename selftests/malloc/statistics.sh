#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# statistics.sh PROGRAM - the sums that malloc_stats, MESH_STATS=1 and MALLOCSTATS=2 print add up,
# and malloc_info writes one XML element in which every element is closed.

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

# The lines of MALLOCSTATS: the program's live bytes are those of the long form.
LD_PRELOAD=$MESH_LIB MALLOCSTATS=2 "$1" xml > /dev/null 2> "$dir/brief"
check_sums "$dir/brief"
for key in 'MESH COUNT' 'Meshed MB (total)' 'Meshed pages HWM' 'Meshed MB HWM' 'MH Alloc Count' \
	'MH Free  Count' 'MH High Water Mark' 'Resident bytes' 'Saved bytes now' \
	'Longest pause us' 'Meshing time ms'; do
	grep -q "^$key:  *[0-9][0-9.]*$" "$dir/brief" || { echo "no $key" >&2; exit 1; }
done
awk '
/^MH Alloc Count:/ { made = $NF }
/^MH Free  Count:/ { freed = $NF }
/^MH High Water Mark:/ { hwm = $NF }
/^Live bytes:/ { live = $NF }
/= in use by the program/ { used = $NF }
/^ *[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+ +[0-9]+$/ { spans += $2 }
END {
	if (!live || live != used || !spans || made - freed != spans || hwm < spans) {
		print "live " live ", used " used ", spans " spans ", made " made \
			", freed " freed ", most " hwm
		exit 1
	}
}' "$dir/brief" >&2
if LD_PRELOAD=$MESH_LIB MALLOCSTATS=1 "$1" xml 2>&1 > /dev/null |
	grep -q 'libmesh: statistics'; then
	echo "MALLOCSTATS=1 prints all" >&2
	exit 1
fi

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
