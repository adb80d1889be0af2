#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# build-kmod.sh KDIR DIR [MAKE-ARGS...] - build meshhelper.ko for the kernel at KDIR into DIR.
#
# kbuild writes next to its sources, so it works on a copy in DIR/src and the tree stays clean.
# The copy keeps time stamps: only what changed is compiled again.

set -euo pipefail
top=$(realpath "$(dirname "$(readlink -f "$0")")/../..")

main()
{
	local kdir dir

	kdir=$(realpath "$1")
	dir=$(realpath -m "$2")
	shift 2
	mkdir -p "$dir/src"
	rm -f "$dir/meshhelper.ko"
	(cd "$top" && tar -c kmod uapi) | tar -x -C "$dir/src"
	# The sources that are gone must not be built any longer.
	(cd "$dir/src" && find kmod uapi -name '*.[ch]' ! -name '*.mod.c') | while read -r file; do
		[ -e "$top/$file" ] || rm "$dir/src/$file"
	done
	make --no-print-directory -C "$dir/src/kmod" KDIR="$kdir" "$@" modules
	cp "$dir/src/kmod/meshhelper.ko" "$dir/meshhelper.ko"
}

if [ $# -lt 2 ]; then
	echo "usage: $0 KDIR DIR [MAKE-ARGS...]" >&2
	exit 2
fi
main "$@"
