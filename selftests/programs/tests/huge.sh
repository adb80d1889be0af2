# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: huge pages
# slow
# timeout: 180
#
# With transparent huge pages always on, of anonymous and of shared memory, heaps are meshed
# and give memory back, and every byte is right.

. "$PROGRAMS/lib.sh"
huge=/sys/kernel/mm/transparent_hugepage
change_setting $huge/enabled always
change_setting $huge/shmem_enabled always
watch_merges
mesh "$SLEEPER" -n 80000 -t 10 -d 30 >out || fail "$(cat out)"
sed 's/^/info: /' out
must_have_merged
mesh "$HELPERS/fork-write" 5
