# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# stress-ng's malloc stressor with verification, and its checks of the C library's
# malloc interface.

. "$PROGRAMS/lib.sh"
need stress-ng

seconds=$(pick 4 6)
mesh stress-ng --temp-path "$PWD" --malloc 2 --malloc-bytes 16K --malloc-max 20000 \
	--malloc-pthreads 2 --malloc-touch --verify --metrics-brief -t "$seconds" >out 2>&1 || {
	cat out
	fail "stress-ng --malloc"
}
! grep -iE 'fail:|error:|corrupt' out || fail "stress-ng --malloc"
grep -qi 'successful run completed' out || { cat out; fail "stress-ng did not finish"; }
echo "info: $(awk '$4 == "malloc" && $5 > 0 { print $5, "malloc operations" }' out)"
