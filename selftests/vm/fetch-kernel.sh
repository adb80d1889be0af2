#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# fetch-kernel.sh VERSION DIR - unpack Debian's cloud kernel VERSION (6.1 or 6.12) in DIR.
#
# VERSION may also name a kernel that build-debug-kernel.sh builds.
#
# Takes the newest kernel of that series which has matching headers. Afterwards DIR holds
#	release		the kernel release, as uname -r prints it
#	vmlinuz		the kernel (a link into root/)
#	config		its configuration (a link into root/)
#	modules		its modules directory (a link into root/)
#	kdir		what KDIR of an out-of-tree module build may point to (a link into root/)
#	root/		the unpacked packages
# A complete DIR is left as it is; remove it to get a newer kernel.

set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=selftests/vm/apt.sh
. "$here/apt.sh"

# The headers package knows its own place by absolute path; teach it where it really is.
relocate_headers()
{
	local root=$1 headers=$2 file
	local absolute="\( \|=\|^\)/usr/\(src\|lib\)/linux-"

	for file in "$headers/Makefile" "$headers/.kernelvariables"; do
		if [ -f "$file" ]; then
			sed -i "s,$absolute,\1$root/usr/\2/linux-," "$file"
		fi
	done
}

# newest_release VERSION: the newest release of the series that has both image and headers.
newest_release()
{
	local image headers release

	apt_private apt-cache pkgnames "linux-image-$1." |
		sed -n 's/^linux-image-\(.*-cloud-amd64\)$/\1/p' | sort -rV |
		while read -r release; do
			image=$(candidate "linux-image-$release")
			headers=$(candidate "linux-headers-$release")
			if [ -n "$image" ] && [ "$headers" = "$image" ]; then
				echo "$release"
				break
			fi
		done
}

# candidate PACKAGE: the version apt would take; empty if there is none.
candidate()
{
	apt_private apt-cache policy "$1" | sed -n 's/^  Candidate: \([^(].*\)/\1/p'
}

# dependency PACKAGE PATTERN: the first package that PACKAGE depends on and PATTERN matches.
dependency()
{
	apt_private apt-cache depends "$1" | sed -n "s/^ *|*Depends: \($2\)\$/\1/p" | head -n 1
}

main()
{
	local version=$1 dir release common kbuild

	dir=$(realpath -m "$2")
	if [ -e "$here/$version.config" ]; then
		exec "$here/build-debug-kernel.sh" "$version" "$dir"
	fi
	if [ -e "$dir/release" ]; then
		return
	fi
	apt_private_init "$(dirname "$dir")/apt"
	release=$(newest_release "$version")
	if [ -z "$release" ]; then
		echo "fetch-kernel: no kernel $version with headers in the archive" >&2
		return 1
	fi
	echo "fetch-kernel: $release into $dir" >&2
	common=$(dependency "linux-headers-$release" 'linux-headers-.*-common')
	kbuild=$(dependency "linux-headers-$release" 'linux-kbuild-.*')

	rm -rf "$dir"
	apt_private_unpack "$dir/root" "linux-image-$release" "linux-headers-$release" \
		"$common" "$kbuild"
	relocate_headers "$dir/root" "$dir/root/usr/src/linux-headers-$release"
	# Type information (BTF) for modules needs a pahole newer than Debian 12's; without vmlinux
	# kbuild does not try.
	rm -f "$dir/root/usr/src/linux-headers-$release/vmlinux"
	ln -s "root/boot/vmlinuz-$release" "$dir/vmlinuz"
	ln -s "root/boot/config-$release" "$dir/config"
	ln -s "root/lib/modules/$release" "$dir/modules"
	ln -s "root/usr/src/linux-headers-$release" "$dir/kdir"
	echo "$release" > "$dir/release"
}

if [ $# -ne 2 ]; then
	echo "usage: $0 VERSION DIR" >&2
	exit 2
fi
main "$@"
