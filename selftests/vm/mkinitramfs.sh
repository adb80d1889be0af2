#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# mkinitramfs.sh FILE - the initramfs of the virtual machine: busybox and init, nothing else.
#
# The disks and filesystems that init needs are built into Debian's cloud kernels.

set -euo pipefail
here=$(dirname "$(readlink -f "$0")")

main()
{
	local image=$1

	if [ "$image" -nt "$here/init" ] && [ "$image" -nt "$0" ]; then
		return
	fi
	root=$(mktemp -d)
	trap 'rm -rf "$root"' EXIT
	mkdir -p "$root"/{.mesh,bin,dev}
	cp -L "$(command -v busybox)" "$root/.mesh/busybox"
	cp "$here/init" "$root/init"
	ln -s /.mesh/busybox "$root/bin/sh"
	(cd "$root" && find . | cpio -o -H newc --quiet) | gzip -1 > "$image.new"
	mv "$image.new" "$image"
}

main "$@"
