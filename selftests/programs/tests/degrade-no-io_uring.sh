# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# timeout: 180
#
# io_uring refused (seccomp, as in many containers; or not built in): the program runs
# and meshes all the same, and one line names io_uring and why.

. "$PROGRAMS/lib.sh"
. "$PROGRAMS/degrade.sh"

for error in EPERM ENOSYS; do
	refused io_uring_setup $error io_uring
done
