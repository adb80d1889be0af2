#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# run.sh - tests of splat.sh with stored console logs, and of tap-count, in TAP.
#
#	splat/*.log	logs of kernels that were made to misbehave: must be found
#	clean/*.log	logs of good runs, in which user programs crashed: must pass
#	splat-lines	lines that must be found in an otherwise clean log
#	clean-lines	lines that must not

set -u
here=$(dirname "$(readlink -f "$0")")
splat=$here/../splat.sh
tap_count=$here/../../lib/tap-count
log=$(mktemp)
shims=$(mktemp -d)
trap 'rm -rf "$log" "$shims"' EXIT
count=0

# report NAME STATUS: one TAP line; a status of 0 is good.
report()
{
	count=$((count + 1))
	if [ "$2" -eq 0 ]; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
	fi
}

lines_of()
{
	grep -v '^#' "$1"
}

# A clean log with LINE in the middle.
log_with()
{
	printf '[    1.000000] vm: command starts\r\n[    2.500000] %s\r\n' "$1"
	printf '[    3.000000] vm: command ended\r\n[    3.500000] reboot: Power down\r\n'
}

test_lines()
{
	local line

	while IFS= read -r line; do
		log_with "$line" > "$log"
		"$splat" "$log" | grep -q 'line 2:'
		report "found: $line" $?
	done < <(lines_of "$here/splat-lines")
	while IFS= read -r line; do
		log_with "$line" > "$log"
		"$splat" "$log" > /dev/null
		report "not found: $line" $?
	done < <(lines_of "$here/clean-lines")
}

# A log may end without "Power down"; add it, so that the splat itself must be found.
test_logs()
{
	local file

	for file in "$here"/splat/*.log; do
		(cat "$file"; echo '[   99.000000] reboot: Power down') > "$log"
		"$splat" "$log" | grep -q ': line '
		report "found: $(basename "$file")" $?
	done
	for file in "$here"/clean/*.log; do
		"$splat" "$file" > /dev/null
		report "clean: $(basename "$file")" $?
	done
}

test_ends()
{
	local file

	for file in "$here"/clean/*.log; do
		grep -v 'reboot: Power down' "$file" > "$log"
		"$splat" "$log" | grep -q 'did not power down'
		report "no power down: $(basename "$file")" $?
		head -c 2000 "$file" > "$log"
		! "$splat" "$log" > /dev/null
		report "truncated: $(basename "$file")" $?
	done
	: > "$log"
	! "$splat" "$log" > /dev/null
	report "empty log" $?
	! "$splat" "$log.missing" > /dev/null 2>&1
	report "missing log" $?
	log_with 'Call Trace:' | sed 's/^\[ *[0-9.]*\]/&[  T190]/' > "$log"
	"$splat" "$log" | grep -q 'line 2:'
	report "found behind a caller id" $?
}

# counts NAME STATUS EXPECTED TEXT: what tap-count makes of a suite's output.
counts()
{
	local result

	result=$(printf '%b' "$4" | PATH=$shims:$PATH "$tap_count" suite "$2" "$log" | tail -n 1)
	[ "$result" = "$3" ]
	report "tap-count by $awk: $1" $?
}

test_counter()
{
	printf '%s\n' 'sui*: slow *: takes hours' 's*e: slow.test: no' > "$log"
	counts 'all pass' 0 '2 0 0' 'TAP version 13\n1..2\nok 1 a\nok 2 b\n'
	counts 'plan at the end' 0 '2 0 0' 'ok 1 a\nok 2 b\n1..2\n'
	counts 'streams one after another' 0 '3 0 0' \
		'TAP version 13\n1..1\nok 1 a\nTAP version 13\n1..2\nok 1 b\nok 2 c\n'
	counts 'a failure' 1 '1 1 0' '1..2\nok 1 a\nnot ok 2 b\n'
	counts 'nothing at all' 0 '0 1 0' ''
	counts 'empty plan' 0 '0 1 0' '1..0\n'
	counts 'no plan' 0 '1 2 0' 'ok 1 a\n'
	counts 'a test is missing' 0 '1 1 0' '1..2\nok 1 a\n'
	counts 'a test is missing in the first stream' 0 '2 1 0' \
		'TAP version 13\n1..2\nok 1 a\nTAP version 13\n1..1\nok 1 b\n'
	counts 'crash after all passed' 125 '1 1 0' '1..1\nok 1 a\n'
	counts 'command fails, tests do not' 1 '1 1 0' '1..1\nok 1 a\n'
	counts 'expected skip' 0 '1 0 1' '1..2\nok 1 a\nok 2 slow test # SKIP no time\n'
	counts 'a star is any text' 0 '0 0 1' '1..1\nok 1 slow test then # SKIP\n'
	printf '%s\n' 'sui*: * te[s]t?^ (a|b)*: takes hours' > "$log"
	counts 'pattern with all that is special' 0 '0 0 1' \
		'1..1\nok 1 slow te[s]t?^ (a|b)c # SKIP\n'
	printf '%s\n' 's*e: slow.test: no' > "$log"
	counts 'pattern with a dot' 0 '0 1 0' '1..1\nok 1 slowXtest # SKIP\n'
	counts 'unexpected skip' 0 '1 1 0' '1..2\nok 1 a\nok 2 other # SKIP no time\n'
	counts 'whole stream skipped' 0 '0 2 0' '1..0 # SKIP no device\n'
	counts 'bail out' 0 '1 1 0' '1..1\nok 1 a\nBail out! no memory\n'
	counts 'comments and other text' 0 '1 0 0' '# ok 7 x\nhello\n1..1\nok 1 a\n    ok 2 b\n'
}

echo 'TAP version 13'
test_lines
test_logs
test_ends
# Each takes some regular expressions for others, or for none.
for awk in mawk gawk 'busybox awk'; do
	command -v "${awk%% *}" > /dev/null || continue
	printf '#!/bin/sh\nexec %s "$@"\n' "$awk" > "$shims/awk"
	chmod +x "$shims/awk"
	test_counter
done
echo "1..$count"
