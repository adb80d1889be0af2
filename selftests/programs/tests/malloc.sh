# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: requests that cannot be served, and calloc
# slow
# timeout: 60
#
# malloc(PTRDIFF_MAX) and its like give NULL and ENOMEM, so do requests when the address space
# is used up, and what calloc() gives out is not resident before it is touched.

. "$PROGRAMS/lib.sh"

for program in enomem large limits; do
	mesh "$MALLOC/malloc-$program" || fail "malloc-$program"
done
