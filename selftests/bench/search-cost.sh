#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# search-cost.sh - the cost of the search against the size of the heap, up to 10 GiB: prints a
# table, and leaves it in build/bench/search-cost.csv and, if gnuplot is installed, as a figure
# beside it.

set -euo pipefail
top=$(realpath "$(dirname "$0")/../..")
build=${MESH_BUILD:-$top/build}
out=$build/bench/search-cost
sizes=(1000 3000 10000 30000 100000 300000 1000000 2621440)

mkdir -p "$build/bench"
"$build/selftests/bench/search-cost" "${sizes[@]}" > "$out.csv"
column -s , -t "$out.csv"
command -v gnuplot > /dev/null || exit 0
gnuplot <<END
set terminal svg size 800,500
set output "$out.svg"
set datafile separator ","
set logscale xy
set key left top
set xlabel "pages of the heap, a tenth of its slots in use"
set ylabel "processor time"
plot "$out.csv" using 1:6 skip 1 with linespoints title "whole search, ms", \
	"$out.csv" using 1:(\$10 / 1000) skip 1 with linespoints title "longest call, ms"
END
