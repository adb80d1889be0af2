# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash
#
# apt.sh - a private view of Debian's package archive, to be sourced.
#
# The kernels under test come from suites that the machine itself need not use (security,
# backports). So apt runs here with its own sources, lists and cache, all below the directory
# given to apt_private_init, and the machine's configuration is left alone. Nothing is installed:
# packages are downloaded and unpacked. apt verifies them with the keys of Debian's archive.

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

# apt_private_init DIR RELEASE: create the private state in DIR, a view of that Debian release.
# Lists are fetched at most once a day.
apt_private_init()
{
	local release=$2
	local mirror=${MESH_MIRROR:-http://deb.debian.org}
	local key=/usr/share/keyrings/debian-archive-keyring.gpg
	local suite

	apt_private_dir=$(realpath -m "$1")
	mkdir -p "$apt_private_dir"/{lists/partial,cache/archives/partial}
	for suite in "$release" "$release-updates" "$release-backports"; do
		echo "deb [signed-by=$key] $mirror/debian $suite main"
	done > "$apt_private_dir/sources.list"
	echo "deb [signed-by=$key] $mirror/debian-security $release-security main" \
		>> "$apt_private_dir/sources.list"
	if [ -z "$(find "$apt_private_dir/stamp" -mtime -1 2> /dev/null)" ]; then
		# By itself apt-get takes a mirror that it cannot reach for a warning.
		apt_private apt-get update -qq --error-on=any || return 1
		touch "$apt_private_dir/stamp"
	fi
}

# unpack_debs FROM DIR: unpack all packages in FROM below DIR, where /usr is merged.
unpack_debs()
{
	local from=$1 dir=$2 name deb

	mkdir -p "$dir"
	for name in bin sbin lib lib64; do
		if [ ! -e "$dir/$name" ]; then
			mkdir -p "$dir/usr/$name"
			ln -s "usr/$name" "$dir/$name"
		fi
	done
	for deb in "$from"/*.deb; do
		dpkg-deb -x "$deb" "$dir" || return 1
	done
}

# apt_private_unpack DIR PACKAGE...: download the packages and unpack them below DIR.
apt_private_unpack()
{
	local dir=$1 debs

	shift
	debs=$(mktemp -d "$apt_private_dir/debs.XXXXXX")
	(cd "$debs" && apt_private apt-get download -qq "$@") && unpack_debs "$debs" "$dir" ||
		return 1
	rm -r "$debs"
}

# apt_private_unpack_system DIR PACKAGE...: the same, with all that the packages depend on. DIR can
# be changed into as a root directory. No package is configured, as that would run its scripts.
apt_private_unpack_system()
{
	local dir=$1 archives=$apt_private_dir/cache/archives

	shift
	apt_private apt-get install -qq --download-only --no-install-recommends \
		-o Dir::State::status=/dev/null -o Dpkg::Use-Pty=0 "$@" > /dev/null &&
		unpack_debs "$archives" "$dir" || return 1
	rm "$archives"/*.deb
}
