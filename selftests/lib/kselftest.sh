#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# kselftest.sh DIR - run every test program in DIR, one TAP stream each.
#
# Runs in the virtual machine, where nothing but busybox may be installed. A program that ends by a
# signal or a timeout without saying "not ok" is one failure more.
#
# Environment: MESH_TIMEOUT_FACTOR, by which all timeouts, those within the programs included, are
# longer on a slow kernel (default 1).

dir=$1
settings=$(dirname "$0")/../settings
timeout=$(sed -n 's/^timeout=//p' "$settings")
timeout=$((${timeout:-60} * ${MESH_TIMEOUT_FACTOR:-1}))
status=0
programs=0

for program in "$dir"/*; do
	if [ ! -f "$program" ] || [ ! -x "$program" ]; then
		continue
	fi
	programs=$((programs + 1))
	echo "# program $(basename "$program")"
	timeout $timeout "$program" 2>&1
	code=$?
	# 4 is how a kselftest says that it skipped as a whole.
	if [ $code -gt 1 ] && [ $code -ne 4 ]; then
		echo "# $(basename "$program") ended with $code"
		echo "TAP version 13"
		echo "1..1"
		echo "not ok 1 $(basename "$program") ends by itself"
	fi
	[ $code -eq 0 ] || [ $code -eq 4 ] || status=1
done

if [ $programs -eq 0 ]; then
	echo "# no test program in $dir"
	exit 1
fi
exit $status
