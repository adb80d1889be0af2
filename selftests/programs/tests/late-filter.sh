# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# timeout: 900
#
# A system call becomes forbidden while the heap is being meshed: the program goes on, its
# heap is right, and what is given up is said once.

. "$PROGRAMS/lib.sh"

# forbid CALL HOW [WORD]: the program, its standard error in the file err. It goes on for WORD
# seconds at most, until something is said there about that.
forbid()
{
	MESH_START_KIB=0 MESH_PERIOD_MS=5 MESH_VERBOSE=1 mesh timeout 150 \
		"$HELPERS/late-filter" "$1" "$2" "$(patience)" "${3:-0}" 2>err || {
		cat err
		fail "$1 $2"
	}
	[ "$(grep -c 'any more' err)" -le 1 ] || { cat err; fail "$1: said more than once"; }
}

all="ppoll mmap munmap mremap openat read pwrite64 process_vm_readv clock_gettime tgkill"
for call in io_uring_enter madvise $(pick "$all" mmap); do
	forbid "$call" errno
done
MESH_LOOP=poll forbid ppoll errno
for call in io_uring_enter ioctl; do
	forbid $call trap
done
forbid ioctl errno "$(patience)"
if can_merge; then
	grep -q 'no meshing' err || fail "ioctl: not a word"
fi
