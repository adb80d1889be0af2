# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: fork with writers
# timeout: 120
#
# A process forks while its threads write: no child sees a write of the parent or of
# another child, no parent a write of a child, and both can go on allocating.

. "$PROGRAMS/lib.sh"

watch_merges
mesh "$HELPERS/fork-write" "$(pick 60 20)" "$(patience)"
must_have_merged
