#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# fetch-ksft.sh DIR - unpack the kernel's own test framework and checkers of source into DIR.
#
# From Debian's linux-source-6.12 package; afterwards DIR holds, as in a kernel tree,
#	tools/testing/selftests/	kselftest_harness.h, kselftest.h, lib.mk, kselftest/
#	scripts/			checkpatch.pl and the word lists it needs; coccicheck
#	scripts/coccinelle/		the semantic patches of coccicheck
# A complete DIR is left as it is.

set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=selftests/vm/apt.sh
. "$here/apt.sh"

main()
{
	local dir source=linux-source-6.12 tests=tools/testing/selftests

	dir=$(realpath -m "$1")
	if [ -e "$dir/complete" ] && [ -e "$dir/scripts/coccicheck" ]; then
		return
	fi
	echo "fetch-ksft: $source into $dir" >&2
	apt_private_init "$(dirname "$dir")/vm/apt-bookworm" bookworm
	rm -rf "$dir"
	apt_private_unpack "$dir/package" "$source"
	tar -x -f "$dir/package/usr/src/$source.tar.xz" -C "$dir" --strip-components=1 \
		--wildcards --no-wildcards-match-slash \
		"$source/$tests/*.h" "$source/$tests/lib.mk" "$source/$tests/kselftest/*" \
		"$source/scripts/checkpatch.pl" "$source/scripts/spelling.txt" \
		"$source/scripts/const_structs.checkpatch" "$source/scripts/spdxcheck.py" \
		"$source/scripts/coccicheck" "$source/scripts/coccinelle"
	rm -r "$dir/package"
	touch "$dir/complete"
}

if [ $# -ne 1 ]; then
	echo "usage: $0 DIR" >&2
	exit 2
fi
main "$@"
