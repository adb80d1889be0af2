#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# run.sh BUILD - install what was built below BUILD/test/install, and use it from there, in TAP.
#
# The library as a program is linked with it, the module's source as DKMS builds it.

set -u
here=$(dirname "$(readlink -f "$0")")
build=$(realpath "$1")
root=$build/test/install
kernel=$build/vm/kernel-6.12
log=$root/check.log
# shellcheck source=selftests/lib/tap.sh
. "$here/../lib/tap.sh"

library_installs()
{
	DESTDIR=$root cmake --install "$build" && [ ! -e "$root/usr/src" ]
}

# The links of the README are those of this tree, and work where it is installed.
links_lead_somewhere()
{
	local readme link links=0

	readme=$(find "$root" -name README.md)
	while read -r link; do
		links=$((links + 1))
		[ -e "$(dirname "$readme")/$link" ] || { echo "there is no $link"; return 1; }
	done < <(grep -o '](Documentation/[^)]*' "$readme" | cut -c 3-)
	[ $links -gt 5 ]
}

source_installs()
{
	DESTDIR=$root cmake --install "$build" --component kmod
}

# flags OPTION: what pkg-config says for the library, wherever it is.
flags()
{
	PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_LIBDIR=$(dirname "$(find "$root" -name mesh.pc)") \
		pkg-config "$1" mesh
}

program_links()
{
	# shellcheck disable=SC2046 # these are several words
	cc -Wall -Wextra -Werror -o "$root/linked" $(flags --cflags) "$here/linked.c" \
		$(flags --libs)
}

program_runs()
{
	LD_LIBRARY_PATH=$(dirname "$(find "$root" -name libmesh.so)") "$root/linked"
}

# The first line of its statistics has the version by which pkg-config knows it.
version_is_told()
{
	MESH_STATS=1 program_runs 2>&1 | grep -q -F " version $(flags --modversion),"
}

project_links()
{
	cmake -S "$here" -B "$root/project" -DCMAKE_PREFIX_PATH="$(dirname "$(find "$root" \
		-path '*/include/mesh.h' -printf '%h\n')")" &&
		cmake --build "$root/project" && "$root/project/linked"
}

# header_compiles COMPILER: with nothing before it, and without a warning.
header_compiles()
{
	local header

	for header in mesh.h linux/meshhelper.h; do
		# shellcheck disable=SC2046 # these are several words
		echo "#include <$header>" | "$@" -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
			$(flags --cflags) - || return 1
	done
}

version()
{
	sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$root"/usr/src/meshhelper-*/dkms.conf
}

# Everything of DKMS's is below the installation, nothing of the machine's is looked at.
dkms_builds()
{
	local module

	mkdir -p "$root/dkms"
	dkms build -m meshhelper -v "$(version)" -k "$(cat "$kernel/release")" \
		--kernelsourcedir "$(realpath "$kernel/kdir")" \
		--config "$(realpath "$kernel/config")" \
		--sourcetree "$root/usr/src" --dkmstree "$root/dkms" || return 1
	module=$(find "$root/dkms" -name meshhelper.ko)
	[ "$(modinfo -F version "$module")" = "$(version)" ]
}

# A pattern in dkms.conf says which kernels the module is for.
dkms_excludes()
{
	local pattern kernel

	pattern=$(sed -n 's/^BUILD_EXCLUSIVE_KERNEL="\(.*\)"/\1/p' \
		"$root"/usr/src/meshhelper-*/dkms.conf)
	for kernel in 6.1.0-50-amd64 6.10.11-amd64 6.12.117 7.3.4 10.0.1; do
		[[ $kernel =~ $pattern ]] || return 1
	done
	for kernel in 4.19.0 5.15.6-1 6.0.12; do
		! [[ $kernel =~ $pattern ]] || return 1
	done
}

module_loads()
{
	"$here/../vm/vm.sh" --kernel 6.12 --module "$(find "$root/dkms" -name meshhelper.ko)" -- \
		"$build/selftests/kmod/uapi"
}

rm -rf "$root"
mkdir -p "$root"
echo 'TAP version 13'
check 'the library installs, and nothing of the module without being asked' library_installs
check 'the links of the README lead somewhere' links_lead_somewhere
check 'a program links by what pkg-config says' program_links
check 'it runs, with the malloc of the library' program_runs
check 'it tells its version' version_is_told
check 'a project finds it by find_package(), and runs with it' project_links
check 'the headers are good C' header_compiles cc -std=c99 -x c
check 'the headers are good C++' header_compiles c++ -std=c++11 -x c++
check "the module's source installs" source_installs
check 'DKMS is told which kernels it is for' dkms_excludes
check 'DKMS builds the module, of the same version' dkms_builds
check 'what it built loads and works' module_loads
echo "1..$count"
