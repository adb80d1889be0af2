# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash
#
# apt.sh - a private view of Debian's package archive, to be sourced.
#
# The kernels under test come from suites that the machine itself need not use (security,
# backports). So apt runs here with its own sources, lists and cache, all below the directory
# given to apt_private_init, and the machine's configuration is left alone. Nothing is installed:
# packages are downloaded and unpacked.

apt_private_dir=

# apt_private TOOL ARGS...: run apt-get or apt-cache on the private state.
apt_private()
{
	local tool=$1

	shift
	"$tool" -o Dir::Etc::sourcelist="$apt_private_dir/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State::lists="$apt_private_dir/lists" \
		-o Dir::Cache="$apt_private_dir/cache" \
		-o APT::Sandbox::User=root \
		-o Debug::NoLocking=1 "$@"
}

# apt_private_init DIR: create the private state in DIR; fetch lists at most once a day.
apt_private_init()
{
	local mirror=${MESH_MIRROR:-http://deb.debian.org}
	local key=/usr/share/keyrings/debian-archive-keyring.gpg
	local suite

	apt_private_dir=$(realpath -m "$1")
	mkdir -p "$apt_private_dir"/{lists/partial,cache/archives/partial}
	for suite in bookworm bookworm-updates bookworm-backports; do
		echo "deb [signed-by=$key] $mirror/debian $suite main"
	done > "$apt_private_dir/sources.list"
	echo "deb [signed-by=$key] $mirror/debian-security bookworm-security main" \
		>> "$apt_private_dir/sources.list"
	if [ -z "$(find "$apt_private_dir/stamp" -mtime -1 2> /dev/null)" ]; then
		apt_private apt-get update -qq
		touch "$apt_private_dir/stamp"
	fi
}

# apt_private_unpack DIR PACKAGE...: download the packages and unpack them below DIR.
apt_private_unpack()
{
	local dir=$1 debs deb

	shift
	debs=$(mktemp -d "$apt_private_dir/debs.XXXXXX")
	(cd "$debs" && apt_private apt-get download -qq "$@") || return 1
	mkdir -p "$dir"
	for deb in "$debs"/*.deb; do
		dpkg-deb -x "$deb" "$dir" || return 1
	done
	rm -r "$debs"
}
