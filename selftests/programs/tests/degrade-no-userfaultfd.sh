# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# timeout: 180
#
# userfaultfd refused: the program runs, and with the module it meshes all the same, by the
# other way to keep writers out; one line names userfaultfd and why.

. "$PROGRAMS/lib.sh"
. "$PROGRAMS/degrade.sh"

for error in EPERM ENOSYS; do
	refused userfaultfd $error userfaultfd
done
