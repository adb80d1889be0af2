#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# plot.sh DIR - draw DIR/pss.svg and DIR/pss.png from the samples that guest.sh left in
# DIR: PSS over time under glibc and libmesh, both from the start of their first fill.

set -eu

dir=$1
kernel=$(cat "$dir/kernel")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# start NAME PHASE: when the phase began, seconds since boot.
start()
{
	awk -v phase="$2" '$2 == phase { print $1; exit }' "$dir/$1.phases"
}

# since NAME PHASE: the same, from the start of the load.
since()
{
	awk -v a="$(start "$1" "$2")" -v b="$(start "$1" fill1)" \
		'BEGIN { printf "%.2f", a - b }'
}

# Keep samples from the first fill to the start of verify: reading all is not the subject.
for name in glibc mesh; do
	awk -F, -v from="$(start $name fill1)" -v to="$(start $name verify)" \
		'NR > 1 && $1 >= from - 0.5 && $1 <= to { print $1 - from, $2 / 1024 }' \
		"$dir/$name.csv" >"$work/$name.dat"
done

# The phases of the two runs do not take equally long: mark each in its colour.
marks()
{
	local name=$1 color=$2 height=$3 phase

	for phase in fill2 idle; do
		cat <<-END
		set arrow from $(since "$name" $phase), graph 0 \
			to $(since "$name" $phase), graph 1 nohead dt 2 lw 1 lc rgb "$color"
		set label "$phase ($name)" at $(since "$name" $phase), graph $height \
			offset 0.4,0 tc rgb "$color" font ",10"
		END
		height=$(awk -v h="$height" 'BEGIN { print h - 0.05 }')
	done
}

draw()
{
	cat <<-END
	set terminal $1
	set output "$2"
	set title "Redis, 240-byte values (fill1), 492-byte values (fill2), idle; Linux $kernel"
	set xlabel "seconds since the start of the load"
	set ylabel "PSS of redis-server, MB"
	set yrange [0:*]
	set xrange [0:*]
	set key bottom right
	set grid
	$(marks glibc '#b03030' 0.27)
	$(marks mesh '#2060b0' 0.15)
	plot "$work/glibc.dat" with lines lw 2 lc rgb "#b03030" title "glibc malloc", \\
		"$work/mesh.dat" with lines lw 2 lc rgb "#2060b0" title "libmesh.so"
	END
}

draw 'svg size 960,540 font "DejaVu Sans,12" background "white"' "$dir/pss.svg" >"$work/svg.gp"
draw 'png size 960,540 font "DejaVu Sans,11"' "$dir/pss.png" >"$work/png.gp"
gnuplot "$work/svg.gp"
gnuplot "$work/png.gp"
