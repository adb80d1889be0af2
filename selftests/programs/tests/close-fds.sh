# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: descriptors of the application's own
# timeout: 120
#
# A program that closes every descriptor from 3 up and reopens files in their place:
# neither its files nor its heap are disturbed, and no descriptor of ours shows up.

. "$PROGRAMS/lib.sh"

watch_merges
mesh "$HELPERS/close-fds" "$PWD" "$(patience)"
must_have_merged
