# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# MESH_BACKEND=none: the program runs, nothing is merged, one line says so.

. "$PROGRAMS/lib.sh"
. "$PROGRAMS/degrade.sh"

merges_before=$(merged_pages)
MESH_BACKEND=none degraded 'MESH_BACKEND'
[ "$(merged_pages)" -eq "$merges_before" ] || fail "pages were merged"
