#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# entry.sh BUILD - what ./run and the scripts behind it say where something is missing, in TAP.

set -u
top=$(realpath "$(dirname "$(readlink -f "$0")")/../..")
build=$(realpath "$1")
work=$(mktemp -d)
log=$work/log
trap 'rm -rf "$work"' EXIT
# shellcheck source=selftests/lib/tap.sh
. "$top/selftests/lib/tap.sh"

# says TEXT STATUS COMMAND...: it ends with that status and says that.
says()
{
	local text=$1 wanted=$2 status=0

	shift 2
	"$@" > "$work/said" 2>&1 || status=$?
	cat "$work/said"
	[ $status -eq "$wanted" ] && grep -q -F -e "$text" "$work/said"
}

# A machine without any of the packages, without sudo, and where one is not root.
poor_machine()
{
	local tool said='and this is not Debian 12'

	! grep -q '^VERSION_CODENAME=bookworm' /etc/os-release ||
		said='root is needed for: apt-get install'

	mkdir -p "$work/bin"
	for tool in bash cat dirname env grep mkdir readlink sed sort; do
		ln -sf "$(command -v $tool)" "$work/bin/"
	done
	printf '#!/bin/sh\nexit 1\n' > "$work/bin/dpkg-query"
	printf '#!/bin/sh\necho 1000\n' > "$work/bin/id"
	chmod +x "$work/bin/dpkg-query" "$work/bin/id"
	says "$said" 1 \
		env PATH="$work/bin" MESH_BUILD="$work" "$top/run" deps
}

# A second build in the same directory waits, and says for what.
second_build()
{
	local held status=0

	exec {held}> "$work/lock"
	flock "$held"
	says 'waiting for another ./run' 124 \
		timeout 3 env MESH_BUILD="$work" "$top/run" build || status=$?
	exec {held}>&-
	return $status
}

# What was not fetched for want of a network is fetched when there is one.
no_network()
{
	# shellcheck disable=SC2016 # expanded by that shell
	! MESH_MIRROR=http://127.0.0.1:9 bash -c '. "$1"; apt_private_init "$2" bookworm' sh \
		"$top/selftests/vm/apt.sh" "$work/apt" && [ ! -e "$work/apt/stamp" ]
}

# The headers of a kernel for which there is nothing to compile.
fake_headers()
{
	mkdir -p "$work/headers"
	# shellcheck disable=SC2016 # expanded by make
	printf 'modules:\n\ttouch $(M)/meshhelper.ko $(M)/written\n' > "$work/headers/Makefile"
}

# Copies of files that cannot be written to can be.
read_only_tree()
{
	mkdir -p "$work/tree/selftests/vm"
	cp -r "$top/kmod" "$top/uapi" "$work/tree/"
	cp "$top/selftests/vm/build-kmod.sh" "$work/tree/selftests/vm/"
	chmod -R a-w "$work/tree"
	"$work/tree/selftests/vm/build-kmod.sh" "$work/headers" "$work/kmod" &&
		[ -z "$(find "$work/kmod" ! -perm -u=w)" ]
	local status=$?
	chmod -R u+w "$work/tree"
	return $status
}

# The module's tests as kselftests, by the kernel's own runner: each is skipped and none fails, and
# the time they may take is theirs.
kselftests_skip()
{
	local programs

	programs=$(grep -l TEST_HARNESS_MAIN "$top"/selftests/kmod/*.c | wc -l)
	make -s -C "$top/selftests" KSFT="$build/ksft/tools/testing/selftests" \
		OUTPUT="$work/kselftest" all run_tests > "$work/said" 2>&1
	cat "$work/said"
	[ "$(grep -c '^ok .* # SKIP' "$work/said")" -eq "$programs" ] &&
		! grep '^not ok' "$work/said" &&
		[ "$(grep -c '^# overriding timeout to 1800$' "$work/said")" -eq "$programs" ]
}

build_kmod=$top/selftests/vm/build-kmod.sh
fake_headers
echo 'TAP version 13'
check 'an unknown command' says 'usage: ./run COMMAND' 2 "$top/run" nonsense
for command in deps build test check bench demo vm shell; do
	check "./run $command --help" says "${command/shell/vm}" 0 "$top/run" "$command" --help
done
check 'an argument where none is taken' says 'takes no arguments: x' 1 "$top/run" check x
check 'an option that is not there' says 'there is no option --x' 2 "$top/run" vm --x true
check 'an unknown suite' says 'no suite nonsense; there are: style' 1 "$top/run" test nonsense
check 'a kernel that is built anyway' says 'debug and kcsan, not 6.12' 1 "$top/run" build 6.12
check 'a place that cannot be written to' says 'MESH_BUILD=DIR' 1 \
	env MESH_BUILD=/proc/mesh "$top/run" build
check 'an option without its value' says '--kernel wants a value' 1 "$top/run" vm --kernel
check 'packages are missing, and nobody may install them' poor_machine
check 'a second build in the same directory' second_build
check 'no network' no_network
check 'a kernel without headers' says "no kernel headers in $work/none" 1 \
	"$build_kmod" "$work/none" "$work/kmod"
check 'a blank in the path' says 'no blank' 1 "$build_kmod" "$work/headers" "$work/a b"
check 'a tree that cannot be written to' read_only_tree
if [ -e /dev/meshhelper ]; then
	echo "ok $((++count)) - kselftests without the module # SKIP there is one"
else
	check 'kselftests without the module are skipped' kselftests_skip
fi
echo "1..$count"
