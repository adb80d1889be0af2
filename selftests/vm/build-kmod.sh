#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# build-kmod.sh KDIR DIR [MAKE-ARGS...] - build meshhelper.ko for the kernel at KDIR into DIR.
#
# An empty KDIR is that of the running kernel.
#
# kbuild writes next to its sources, so it works on a copy in DIR/src and the tree stays clean.
# The copy keeps time stamps: only what changed is compiled again. It can be written to, if the tree
# cannot.
#
# Where KDIR is in a system of its own (see fetch-kernel.sh), make runs with that as its root
# directory and DIR as /mnt. What is mounted for it is so in a mount namespace that nobody else is
# in, and gone with the last process in there, however that ends.

set -euo pipefail
top=$(realpath "$(dirname "$(readlink -f "$0")")/../..")

# system_of KDIR: the root of the system that KDIR is in, unless that is this machine.
system_of()
{
	local root=${1%/usr/src/*}

	if [ -n "$root" ] && [ -x "$root/usr/bin/make" ]; then
		echo "$root"
	fi
}

# in_system ROOT DIR COMMAND...: run it with ROOT as the root directory and DIR as /mnt there.
in_system()
{
	local root=$1 dir=$2 user=()

	shift 2
	if [ "$(id -u)" -ne 0 ]; then
		user=(--user --map-root-user)
	fi
	# shellcheck disable=SC2016 # to be expanded by that shell
	unshare "${user[@]}" --mount --propagation private sh -euc '
		root=$1 dir=$2
		shift 2
		mount --rbind /dev "$root/dev"
		mount --rbind /proc "$root/proc"
		mount -t tmpfs tmp "$root/tmp"
		mount --bind "$dir" "$root/mnt"
		exec env -i PATH=/usr/local/bin:/usr/bin HOME=/tmp LC_ALL=C.UTF-8 \
			/usr/sbin/chroot "$root" "$@"
	' sh "$root" "$dir" "$@"
}

# make_module KDIR DIR MAKE-ARGS...
make_module()
{
	local kdir=$1 dir=$2 system

	shift 2
	system=$(system_of "$kdir")
	if [ -n "$system" ]; then
		in_system "$system" "$dir" make --no-print-directory -C /mnt/src/kmod \
			KDIR="${kdir#"$system"}" "$@" modules
	else
		make --no-print-directory -C "$dir/src/kmod" KDIR="$kdir" "$@" modules
	fi
}

die()
{
	echo "build-kmod: $*" >&2
	exit 1
}

main()
{
	local kdir=${1:-/lib/modules/$(uname -r)/build} dir

	[ -e "$kdir/Makefile" ] || die "no kernel headers in $kdir (of the running kernel:" \
		"package linux-headers-$(uname -r) on Debian)"
	kdir=$(realpath "$kdir")
	dir=$(realpath -m "$2")
	[[ $dir != *[[:space:]:]* ]] || die "kbuild takes no blank or colon in a path: $dir"
	shift 2
	mkdir -p "$dir/src"
	rm -f "$dir/meshhelper.ko"
	(cd "$top" && tar -c --mode=u+w kmod uapi) | tar -x -C "$dir/src"
	# The sources that are gone must not be built any longer.
	(cd "$dir/src" && find kmod uapi -name '*.[ch]' ! -name '*.mod.c') | while read -r file; do
		[ -e "$top/$file" ] || rm "$dir/src/$file"
	done
	make_module "$kdir" "$dir" "$@"
	cp "$dir/src/kmod/meshhelper.ko" "$dir/meshhelper.ko"
}

if [ $# -lt 2 ]; then
	echo "usage: $0 KDIR DIR [MAKE-ARGS...]" >&2
	exit 2
fi
main "$@"
