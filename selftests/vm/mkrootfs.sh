#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# mkrootfs.sh IMAGE - a root filesystem with this machine's own Debian programs.
#
# Takes the installed packages named in the "packages" files next to the tests that use them (one
# name per line), Debian's essential ones, awk, all that they depend on, and puts their files into
# an ext4 image. Nothing is downloaded, and no file outside packages is taken, so no secrets of the
# machine get in. The image is built again when the set of packages or their versions change.

set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
selftests=$(realpath "$here/..")

wanted_packages()
{
	(
		dpkg-query -W -f '${Essential} ${Package}\n' | sed -n 's/^yes //p'
		# They depend on any awk; scripts run the one that this machine has chosen.
		dpkg-query -S "$(readlink -f "$(command -v awk)")" | cut -d : -f 1
		sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$selftests"/*/packages
	) | sort -u
}

# shellcheck disable=SC2016 # the dollars are for dpkg-query
# The installed packages among those named on stdin and all that they depend on.
closure()
{
	xargs apt-cache depends --recurse --installed --no-recommends --no-suggests \
		--no-conflicts --no-breaks --no-replaces --no-enhances 2> /dev/null |
		sed -n 's/^\([^ <].*\)$/\1/p' | sort -u |
		(xargs dpkg-query -W -f '${db:Status-Status} ${binary:Package} ${Version}\n' \
			2> /dev/null || true) |
		sed -n 's/^installed //p' | sort -u
}

missing_packages()
{
	local package

	while read -r package; do
		if ! dpkg-query -W -f '${db:Status-Status}\n' "$package" 2> /dev/null |
			grep -qx installed; then
			echo "$package"
		fi
	done
}

# The files of the packages, as paths relative to / and free of the links /bin, /lib and so on.
list_files()
{
	cut -d ' ' -f 1 | xargs dpkg-query -L | sed -n 's,^/,,p' |
		sed -E 's,^(bin|sbin|lib|lib32|lib64|libx32)(/|$),usr/\1\2,' |
		grep -v -E '^(\.|)$|^usr/share/(doc|man|info|locale|lintian|bug)/' | sort -u
	# Names that packages choose at installation time.
	(cd / && find usr/{bin,sbin,lib,share} -type l -lname '/etc/alternatives/*' -print)
	(cd / && find etc/alternatives -print)
}

# What no package contains but every root filesystem has.
add_base()
{
	local root=$1 name

	mkdir -p "$root"/{dev,proc,sys,run,tmp,root,etc,mnt,var/tmp}
	for name in passwd group; do
		cp "/usr/share/base-passwd/$name.master" "$root/etc/$name"
	done
	grep -E '^(redis|_apt|messagebus):' /etc/passwd >> "$root/etc/passwd" || true
	grep -E '^(redis|messagebus):' /etc/group >> "$root/etc/group" || true
	printf '127.0.0.1 localhost mesh\n::1 localhost\n' > "$root/etc/hosts"
	echo mesh > "$root/etc/hostname"
	cp -P /etc/localtime "$root/etc/" 2> /dev/null || true
	ldconfig -r "$root"
}

build_image()
{
	local image=$1 packages=$2 name

	for name in bin sbin lib lib32 lib64 libx32; do
		mkdir -p "$root/usr/$name"
		ln -s "usr/$name" "$root/$name"
	done
	list_files < "$packages" | (cd / && while read -r file; do
		if [ -e "$file" ] || [ -L "$file" ]; then
			echo "$file"
		fi
	done) | tar -c --no-recursion -C / -T - | tar -x --keep-directory-symlink -C "$root"
	add_base "$root"
	rm -f "$image.new"
	truncate -s 4G "$image.new"
	mkfs.ext4 -q -F -O ^has_journal -m 0 -d "$root" "$image.new"
	mv "$image.new" "$image"
}

main()
{
	local image=$1 missing

	missing=$(wanted_packages | missing_packages | tr '\n' ' ')
	if [ -n "$missing" ]; then
		echo "mkrootfs: not installed: $missing(try: ./run deps)" >&2
		return 1
	fi
	root=$(mktemp -d "$image.XXXXXX")
	trap 'rm -rf "$root"' EXIT
	wanted_packages | closure > "$root/packages"
	sha256sum < "$0" >> "$root/packages"
	if [ -e "$image" ] && cmp -s "$root/packages" "$image.packages"; then
		return
	fi
	echo "mkrootfs: building $image from $(wc -l < "$root/packages") packages" >&2
	mv "$root/packages" "$image.packages.new"
	sed -i '$d' "$image.packages.new"
	build_image "$image" "$image.packages.new"
	sha256sum < "$0" >> "$image.packages.new"
	mv "$image.packages.new" "$image.packages"
}

main "$@"
