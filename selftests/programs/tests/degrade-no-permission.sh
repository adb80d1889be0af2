# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# /dev/meshhelper may not be opened: the program runs, and one line names it and why.

. "$PROGRAMS/lib.sh"
# The tree may be where only root may look, as below /root.
cp "$PRELOAD" "$BENCH/fragment" .
PRELOAD=$PWD/$(basename "$PRELOAD")
BENCH=$PWD
. "$PROGRAMS/degrade.sh"

export MESH_BACKEND=auto
have_module || skip "no module loaded: there is no device to be refused"
[ "$(id -u)" -eq 0 ] || skip "only root can change the device's mode"
need setpriv
mode=$(stat -c %a /dev/meshhelper)
chmod 600 /dev/meshhelper
trap 'chmod $mode /dev/meshhelper' EXIT
chmod 777 .
degraded '/dev/meshhelper.*([Pp]ermission denied|EACCES|errno 13|error 13)' \
	setpriv --reuid=65534 --regid=65534 --clear-groups
