# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: shared futexes
# timeout: 600
#
# Threads that wait on futexes in the heap which are not marked private, directly and
# through std::promise and std::async, lose no wake-up when the pages are merged meanwhile.

. "$PROGRAMS/lib.sh"

export MESH_START_KIB=0
watch_merges
mesh "$HELPERS/futex-wait"
must_have_merged
watch_merges
mesh "$HELPERS/future"
must_have_merged
