# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: system calls that write to pages being merged
# slow
# timeout: 60
#
# read(), recv() and pread() into objects whose pages are being merged never fail, also in
# threads that have SIGSEGV blocked.

. "$PROGRAMS/lib.sh"

export MESH_START_KIB=0 MESH_PERIOD_MS=1
watch_merges
mesh "$HELPERS/syscalls" "$(pick 4 1)"
must_have_merged
