# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# No /dev/meshhelper: the program runs, and one line names it and why.

. "$PROGRAMS/lib.sh"
. "$PROGRAMS/degrade.sh"

export MESH_BACKEND=auto
if have_module; then
	[ "$(id -u)" -eq 0 ] || skip "only root can take the device node away"
	mv /dev/meshhelper /dev/meshhelper.away
	trap 'mv /dev/meshhelper.away /dev/meshhelper' EXIT
fi
degraded '/dev/meshhelper.*([Nn]o such file|ENOENT|errno 2|error 2)'
