#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# build-debug-kernel.sh NAME DIR - build a kernel that checks itself, from linux-source-6.12.
#
# The configuration is allnoconfig and what debug.config, next to this script, asks for, as changed
# by NAME.config, if that is another. DIR looks as
# fetch-kernel.sh makes it: release, vmlinuz, config, modules, kdir. The source is unpacked next to
# DIR, and objects stay in DIR/obj, so that only what a change of the configuration touches is
# compiled again. A DIR that was built from the same configuration is left as it is.

set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=selftests/vm/apt.sh
. "$here/apt.sh"

package=linux-source-6.12

say()
{
	echo "build-debug-kernel: $*" >&2
}

# unpack_source DIR: once; the package is not needed afterwards.
unpack_source()
{
	local dir=$1 vm

	if [ -e "$dir/Makefile" ]; then
		return
	fi
	say "unpacking $package into $dir"
	vm=$(dirname "$dir")
	apt_private_init "$vm/apt-bookworm" bookworm
	rm -rf "$dir" "$dir.new" "$dir.package"
	apt_private_unpack "$dir.package" "$package"
	mkdir -p "$dir.new"
	tar -x -f "$dir.package/usr/src/$package.tar.xz" -C "$dir.new" --strip-components=1
	rm -r "$dir.package"
	mv "$dir.new" "$dir"
}

# wanted_config NAME: an option that both files name is as the second says.
wanted_config()
{
	if [ "$1" != debug ]; then
		grep -v -F -f <(sed -n 's/^\(CONFIG_[A-Z0-9_]*=\).*/\1/p' "$here/$1.config") \
			"$here/debug.config"
	fi
	cat "$here/$1.config"
}

# check_config WANTED CONFIG: kconfig drops silently what depends on something that is not there.
check_config()
{
	local line missing=0

	while read -r line; do
		if ! grep -q -x -F -e "$line" "$2"; then
			say "not in the configuration: $line"
			missing=1
		fi
	done < <(grep '^CONFIG_' "$1" | grep -v '=n$')
	return $missing
}

# quietly COMMAND...: keep the output in a log, and show its end when the command fails.
quietly()
{
	if ! "$@" >> "$log" 2>&1; then
		tail -n 30 "$log" >&2
		say "failed: $* (all of it: $log)"
		return 1
	fi
}

build()
{
	local source=$1 dir=$2 wanted=$3 obj=$2/obj log=$2/build.log

	# The same configuration gives the same kernel, whoever builds it.
	export KBUILD_BUILD_TIMESTAMP='2025-01-01' KBUILD_BUILD_USER=mesh KBUILD_BUILD_HOST=mesh
	mkdir -p "$obj"
	: > "$log"
	quietly make -s -C "$source" O="$obj" KCONFIG_ALLCONFIG="$wanted" allnoconfig
	quietly make -s -C "$source" O="$obj" olddefconfig
	check_config "$wanted" "$obj/.config"
	# Data races are looked for in what is built against it, and not in itself: it has those
	# that are meant to be, and few of its accesses would be those of a module.
	quietly make -C "$obj" -j "$(nproc)" KCSAN_SANITIZE=n bzImage modules
	quietly make -s -C "$obj" INSTALL_MOD_PATH="$dir/root" modules_install
	rm -f "$dir"/root/lib/modules/*/{build,source}
}

main()
{
	local dir source start=$SECONDS release

	dir=$(realpath -m "$2")
	source=$(dirname "$dir")/$package
	if [ -e "$dir/release" ] && cmp -s <(wanted_config "$1") "$dir/wanted"; then
		return
	fi
	mkdir -p "$dir"
	unpack_source "$source"
	say "building in $dir; this takes 10 to 15 minutes on two cores"
	rm -f "$dir/release"
	wanted_config "$1" > "$dir/wanted"
	build "$source" "$dir" "$dir/wanted"
	release=$(cat "$dir/obj/include/config/kernel.release")
	ln -s -f -n obj/arch/x86/boot/bzImage "$dir/vmlinuz"
	ln -s -f -n obj/.config "$dir/config"
	ln -s -f -n "root/lib/modules/$release" "$dir/modules"
	ln -s -f -n obj "$dir/kdir"
	echo "$release" > "$dir/release"
	say "$release is built ($((SECONDS - start)) s)"
}

if [ $# -ne 2 ] || [ ! -e "$here/$1.config" ]; then
	echo "usage: $0 NAME DIR" >&2
	exit 2
fi
main "$@"
