#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# merge-steps.sh MERGE-COST - what the steps of a merge cost, and how often the TLB is flushed.
#
# Runs the program once for each step and has the kernel's function graph tracer time one function
# only, or its own cost would be counted in the functions around it. Prints the calls and the time
# for a merged page; functions that the compiler has inlined have none. Made for a machine whose
# clock counts instructions:
#
#	./run vm --icount -- selftests/bench/merge-steps.sh "$PWD/build/selftests/bench/merge-cost"

set -eu

program=$1
tracing=/sys/kernel/tracing
counters=/sys/class/misc/meshhelper

# One pair at a time of 1024, in both modes alike.
run()
{
	"$program" -n 1024 -r 1 -m "$1" > /dev/null
}

trace()
{
	echo 0 > $tracing/tracing_on
	echo nop > $tracing/current_tracer
	echo "$1" > $tracing/set_ftrace_filter
	echo function_graph > $tracing/current_tracer
	echo > $tracing/trace
	echo 1 > $tracing/tracing_on
}

# "  0)   1.234 us    |  mh_zap [meshhelper]();", with a mark before the number if it is large.
sum()
{
	sed -n 's/^ *[0-9]*) *[^0-9 ]* *\([0-9.]*\) us .*/\1/p' $tracing/trace |
		awk -v name="$1" -v pages="$2" '
			{ us += $1 }
			END { printf "%-26s %8.2f %10.0f\n", name, NR / pages, us * 1000 / pages }'
}

step()
{
	# Variables of this function only, but POSIX has no word for that: before, pages.
	trace "$2"
	before=$(cat $counters/pages_merged_total)
	run "$1"
	echo 0 > $tracing/tracing_on
	pages=$(($(cat $counters/pages_merged_total) - before))
	sum "$2" "$pages"
}

functions="mh_batch mh_arm_pair mh_merge_pair mh_get_page mh_join_prepare mh_copy_live mh_zap
	mh_join_commit mh_store_free mh_fault mh_page_mkwrite mwriteprotect_range
	flush_tlb_mm_range"

echo 65536 > $tracing/buffer_size_kb
for mode in zap armed; do
	printf '%-26s %8s %10s\n' "$mode" "calls" "ns"
	for function in $functions; do
		if grep -q "^$function\( \|\$\)" $tracing/available_filter_functions; then
			step $mode "$function"
		fi
	done
done
echo nop > $tracing/current_tracer
