# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash disable=SC2154
#
# tap.sh - TAP lines for scripts whose tests are commands, sourced. $log is a file to use meanwhile.

count=0

# check NAME COMMAND...: one TAP line; what the command prints is shown if it fails.
check()
{
	local name=$1

	shift
	count=$((count + 1))
	if "$@" > "$log" 2>&1; then
		echo "ok $count - $name"
	else
		sed 's/^/# /' "$log"
		echo "not ok $count - $name"
	fi
}
