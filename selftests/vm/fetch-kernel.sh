#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# fetch-kernel.sh VERSION DIR - unpack Debian's cloud kernel VERSION (6.1, 6.12 or 7.3) in DIR.
#
# VERSION may also name a kernel that build-debug-kernel.sh builds.
#
# Takes the newest kernel of that series which has matching headers. Afterwards DIR holds
#	release		the kernel release, as uname -r prints it
#	vmlinuz		the kernel (a link into root/)
#	config		its configuration (a link into root/)
#	modules		its modules directory (a link into root/)
#	kdir		what KDIR of build-kmod.sh may point to (a link into root/)
#	root/		the unpacked packages
# A complete DIR is left as it is; remove it to get a newer kernel.
#
# What Debian 12 does not have is taken from Debian 13. The programs that such a kernel's headers
# bring along need Debian 13's C library, and the kernel its compiler; root/ then is a system of its
# own, with all that is needed to build modules in it, and build-kmod.sh does it there.

set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=selftests/vm/apt.sh
. "$here/apt.sh"

# What building a module takes besides what the headers depend on; sparse for C=1.
tools=(bash coreutils dash diffutils findutils grep make mawk sed sparse)

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

# dependencies PACKAGE PATTERN: the packages that PACKAGE depends on and PATTERN matches.
dependencies()
{
	apt_private apt-cache depends "$1" | sed -n "s/^ *|*Depends: \($2\)\$/\1/p" | sort -u
}

# unpack_image RELEASE ROOT: newer kernels come in several packages.
unpack_image()
{
	local pattern='linux-\(base\|binary\|modules\)-[0-9].*' parts

	mapfile -t parts < <(dependencies "linux-image-$1" "$pattern")
	apt_private_unpack "$2" "linux-image-$1" "${parts[@]}"
}

# unpack_headers RELEASE ROOT: the headers, and the programs in them run on this machine.
unpack_headers()
{
	local headers=linux-headers-$1 parts

	mapfile -t parts < <(dependencies "$headers" 'linux-headers-.*-common\|linux-kbuild-.*')
	apt_private_unpack "$2" "$headers" "${parts[@]}"
	relocate_headers "$2" "$2/usr/src/$headers"
}

# unpack_system RELEASE ROOT: the headers and a system for them.
unpack_system()
{
	apt_private_unpack_system "$2" "linux-headers-$1" "${tools[@]}"
	ln -sf mawk "$2/usr/bin/awk"
	# build-kmod.sh mounts something there.
	mkdir -p "$2"/{dev,mnt,proc,tmp}
	adapt_sparse "$2" "$2/usr/src/linux-headers-$1"
}

# adapt_sparse ROOT HEADERS: the kernel asks for a sparse that Debian 13 does not have.
adapt_sparse()
{
	local asks=$2/scripts/checker-valid.sh sparse=$1/usr/local/bin/sparse

	mkdir -p "${sparse%/*}"
	cat > "$sparse" <<-'END'
		#!/bin/sh
		# Newer than sparse 0.6.4: an operator of C23, and that strlen("") is a constant.
		exec /usr/bin/sparse -D__typeof_unqual__=__typeof__ \
			'-D__builtin_strlen(s)=(sizeof(s)-1)' "$@"
	END
	chmod +x "$sparse"
	# Asked whether the checker is good enough, but not in the package. What it does not
	# understand are errors anyway.
	if [ ! -e "$asks" ]; then
		printf '#!/bin/sh\necho 1\n' > "$asks"
		chmod +x "$asks"
	fi
}

# first_existing DIR FILE...: the first of the FILEs that is in DIR.
first_existing()
{
	local dir=$1 file

	shift
	for file in "$@"; do
		if [ -e "$dir/$file" ]; then
			echo "$file"
			return
		fi
	done
	echo "fetch-kernel: none of these in $dir: $*" >&2
	return 1
}

link_parts()
{
	local dir=$1 release=$2 modules=root/lib/modules/$2 file

	ln -s "$modules" "$dir/modules"
	ln -s "root/usr/src/linux-headers-$release" "$dir/kdir"
	for file in vmlinuz config; do
		ln -s "$(first_existing "$dir" "root/boot/$file-$release" "$modules/$file")" \
			"$dir/$file"
	done
}

# fetch RELEASE DIR DEBIAN: from that release of Debian.
fetch()
{
	local release=$1 dir=$2 debian=$3

	echo "fetch-kernel: $release into $dir" >&2
	rm -rf "$dir"
	unpack_image "$release" "$dir/root"
	if [ "$debian" = bookworm ]; then
		unpack_headers "$release" "$dir/root"
	else
		unpack_system "$release" "$dir/root"
	fi
	# Type information (BTF) for modules needs a pahole newer than Debian 12's; without vmlinux
	# kbuild does not try.
	rm -f "$dir/root/usr/src/linux-headers-$release/vmlinux"
	link_parts "$dir" "$release"
	echo "$release" > "$dir/release"
}

main()
{
	local version=$1 dir debian release

	dir=$(realpath -m "$2")
	if [ -e "$here/$version.config" ]; then
		exec "$here/build-debug-kernel.sh" "$version" "$dir"
	fi
	if [ -e "$dir/release" ]; then
		return
	fi
	for debian in bookworm trixie; do
		apt_private_init "$(dirname "$dir")/apt-$debian" "$debian"
		release=$(newest_release "$version")
		if [ -n "$release" ]; then
			fetch "$release" "$dir" "$debian"
			return
		fi
	done
	echo "fetch-kernel: no kernel $version with headers in the archive" >&2
	return 1
}

if [ $# -ne 2 ]; then
	echo "usage: $0 VERSION DIR" >&2
	exit 2
fi
main "$@"
