#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# vm.sh [OPTIONS] [--] COMMAND... - run a command as root on a chosen kernel, in a virtual machine.
#
#	--kernel VERSION	6.12 (default), 6.1, 7.3, debug or kcsan (see build-debug-kernel.sh)
#	--mem MB		memory of the machine, default 2048
#	--smp N			processors, default 2
#	--icount		its clock counts instructions: what is measured does not depend on
#				what else the host does (never accelerated)
#	--swap MB		give it a swap disk
#	--timeout S		seconds until the machine is taken for hung, default 600
#	--no-module		do not load meshhelper.ko
#	--module FILE		load FILE, not the meshhelper.ko built for that kernel
#	--rootfs		a root with Debian's programs (see packages), not just busybox
#	--out DIR		keep what the command leaves in $MESH_OUT in DIR, and the logs
#	--copy FILE		take FILE (or directory) along, to the same path
#	--append ARGS		more arguments for the kernel's command line
#	--shell			interactive shell instead of COMMAND
#
# The source tree and what has been built of it are at the same absolute paths in the machine as
# outside, and the command starts in the top directory. Standard output is that of the command. The
# result is the command's exit code, unless the machine itself failed: then it is 125, for a kernel
# splat (see splat.sh), a module that does not load or unload, no exit code, no clean power down, or
# kernel debugging that gave up on the way.
# 124 is a timeout.
#
# Environment: MESH_BUILD (default TOP/build), MESH_ACCEL (kvm or tcg; probed otherwise).

set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
top=$(realpath "$here/../..")
build=$(realpath -m "${MESH_BUILD:-$top/build}")

kernel=6.12
mem=2048
smp=2
icount=no
swap=0
limit=600
module=default
rootfs=no
out=
append=
shell=no
copies=()
command=()
qemu=

say()
{
	echo "vm: $*" >&2
}

die()
{
	say "$*"
	exit 125
}

usage()
{
	sed -n '/^# vm.sh/,/^$/s/^# \{0,1\}//p' "$0"
	exit "$1"
}

parse_options()
{
	while [ $# -gt 0 ]; do
		case $1 in
		--kernel) kernel=${2?$1 wants a value}; shift 2 ;;
		--mem) mem=${2?$1 wants a value}; shift 2 ;;
		--smp) smp=${2?$1 wants a value}; shift 2 ;;
		--icount) icount=yes; shift ;;
		--swap) swap=${2?$1 wants a value}; shift 2 ;;
		--timeout) limit=${2?$1 wants a value}; shift 2 ;;
		--no-module) module=none; shift ;;
		--module) module=${2?$1 wants a value}; shift 2 ;;
		--rootfs) rootfs=yes; shift ;;
		--out) out=${2?$1 wants a value}; shift 2 ;;
		--copy) copies+=("$(realpath "$2")"); shift 2 ;;
		--append) append=${2?$1 wants a value}; shift 2 ;;
		--shell) shell=yes; shift ;;
		--) shift; break ;;
		-h | --help) usage 0 ;;
		-*) say "there is no option $1"; usage 2 >&2 ;;
		*) break ;;
		esac
	done
	command=("$@")
	if [ $shell = yes ]; then
		command=(sh -i)
		append="$append mesh.shell"
	fi
	[ ${#command[@]} -gt 0 ] || usage 2 >&2
}

# The accelerator is probed once: a /dev/kvm may exist and still not boot a stock kernel.
accelerator()
{
	local stamp=$build/vm/accel

	if [ $icount = yes ]; then
		echo tcg
		return
	fi
	if [ -n "${MESH_ACCEL:-}" ]; then
		echo "$MESH_ACCEL"
		return
	fi
	if [ ! -e "$stamp" ]; then
		if [ -w /dev/kvm ] && probe_kvm; then
			echo kvm > "$stamp"
		else
			echo tcg > "$stamp"
		fi
		say "machines run with $(cat "$stamp")"
	fi
	cat "$stamp"
}

probe_kvm()
{
	timeout 10 qemu-system-x86_64 -M q35 -accel kvm -cpu host -m 512 -nodefaults -no-reboot \
		-display none -serial stdio -kernel "$build/vm/kernel-$kernel/vmlinuz" \
		-initrd "$build/vm/initramfs" -append "console=ttyS0 panic=-1 mesh.probe" \
		2>&1 < /dev/null | grep -q 'reboot: Power down'
}

# bookworm's QEMU gets cmpxchg16b wrong under TCG and Linux 6.12 then dies at random: hide it. So
# are the string instructions that the kernel would use byte by byte: clearing and copying memory is
# several times faster by words, under TCG.
machine_options()
{
	local cpu=max,-cx16,-erms,-fsrm

	if [ "$1" = kvm ]; then
		echo -M q35 -accel kvm -cpu host
	elif [ $icount = yes ]; then
		echo -M q35 -accel tcg,thread=single -icount shift=0,sleep=off -cpu $cpu
	else
		echo -M q35 -accel tcg,thread=multi -cpu $cpu
	fi
}

# needed_libraries FILE...: the shared libraries of the FILEs and of the programs that were built.
needed_libraries()
{
	(
		cd /
		(list_tree; printf '%s\n' "$@") | while read -r file; do
			if [ -f "$file" ] && [ -x "$file" ]; then
				ldd "$file" 2> /dev/null | grep -o '/[^ ]*' || true
			fi
		done | sort -u
	)
}

# The source tree, and what has been built except for inputs of the build; relative to /.
list_tree()
{
	(
		cd /
		find "${top#/}" -path "${top#/}/.git" -prune -o -path "${top#/}/build*" -prune -o \
			! -type d -print
		if [ -d "$build" ]; then
			list_build "${build#/}"
		fi
	)
}

list_build()
{
	find "$1" \( -path "$1/vm" -o -path "$1/ksft" -o -path "$1/test" -o -name CMakeFiles \
		-o -name Testing -o -path "$1/kmod*/src" \) -prune -o ! -type d \
		! -name '*.o' ! -name '*.a' ! -name '*.ninja*' ! -name '*.cmake' -print
}

# The command, as a script for the guest's shell.
write_command()
{
	local term=dumb

	if [ $shell = yes ]; then
		term=${TERM:-vt100}
	fi
	echo "export HOME=/root LC_ALL=C.UTF-8 TERM=$term"
	echo "export PAGER=cat GIT_PAGER=cat"
	echo "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	echo "export MESH_TOP='$top' MESH_BUILD='$build' MESH_KERNEL=$kernel MESH_OUT=/run/mesh/out"
	echo "export MESH_IN_VM=$accel"
	echo "cd '$top'"
	printf '%q ' "${command[@]}"
	echo
}

# Make the tar archive that the machine unpacks over its root.
pack_job()
{
	local files=("${copies[@]}") stage=$work/stage

	mkdir -p "$stage/.mesh"
	write_command > "$stage/.mesh/command"
	if [ "$module" != none ]; then
		cp "$module" "$stage/.mesh/module.ko"
	fi
	tar -c -f "$work/job.tar" -C "$stage" .mesh
	list_tree | tar -r -f "$work/job.tar" -C / -T -
	if [ $rootfs = no ]; then
		mapfile -t -O ${#files[@]} files < <(needed_libraries "${copies[@]}")
	fi
	if [ ${#files[@]} -gt 0 ]; then
		add_outside "${files[@]}"
	fi
	truncate -s %4096 "$work/job.tar"
}

# Add files by absolute path. Links to directories on the way (/lib64) are followed by name.
add_outside()
{
	printf '%s\n' "$@" | sed 's,^/,,' | sort -u |
		tar -r -h -f "$work/job.tar" -C / -T -
}

add_disk()
{
	qemu_args+=(-drive "file=$2,format=raw,if=none,id=$1,cache=unsafe,$3")
	qemu_args+=(-device "nvme,drive=$1,serial=$1")
}

boot()
{
	local accel_options rc=0

	read -r -a accel_options <<< "$(machine_options "$accel")"
	qemu_args=("${accel_options[@]}" -m "$mem" -smp "$smp" -nodefaults -no-reboot -display none
		-kernel "$build/vm/kernel-$kernel/vmlinuz" -initrd "$build/vm/initramfs"
		-append "console=ttyS0 panic=-1 oops=panic ignore_loglevel $append"
		-device virtio-rng-pci
		-serial "file:$work/console.log" -serial stdio)
	rm -f "$work/out.img"
	truncate -s 1G "$work/out.img"
	add_disk job "$work/job.tar" readonly=on
	add_disk out "$work/out.img" readonly=off
	if [ $rootfs = yes ]; then
		add_disk root "$build/vm/rootfs.img" snapshot=on
	fi
	if [ "$swap" -gt 0 ]; then
		truncate -s "${swap}M" "$work/swap.img"
		add_disk swap "$work/swap.img" readonly=off
	fi
	: > "$work/console.log"
	if [ $shell = yes ]; then
		timeout -k 5 --foreground "$limit" qemu-system-x86_64 "${qemu_args[@]}" || rc=$?
	else
		timeout -k 5 "$limit" qemu-system-x86_64 "${qemu_args[@]}" < /dev/null &
		qemu=$!
		wait $qemu || rc=$?
		qemu=
	fi
	return $rc
}

collect()
{
	rm -rf "$work/out"
	mkdir -p "$work/out"
	tar -x -f "$work/out.img" -C "$work/out" 2> /dev/null || true
	if [ -n "$out" ]; then
		mkdir -p "$out"
		cp -r "$work/out/." "$out/"
		cp "$work/console.log" "$out/console.log"
	fi
}

# field NAME: what the guest left in its status file.
field()
{
	sed -n "s/^$1=//p" "$work/out/status" 2> /dev/null | head -n 1
}

# Judge the run; print every reason to distrust it.
judge()
{
	local qemu_rc=$1 bad=0

	if [ "$qemu_rc" -eq 124 ] || [ "$qemu_rc" -eq 137 ]; then
		say "timeout: not finished after $limit s"
		bad=124
	elif [ "$qemu_rc" -ne 0 ]; then
		say "qemu failed with $qemu_rc"
		bad=125
	fi
	if ! "$here/splat.sh" "$work/console.log" >&2; then
		bad=$((bad ? bad : 125))
	fi
	if [ -z "$(field exit)" ]; then
		say "the command left no exit code"
		bad=$((bad ? bad : 125))
	fi
	if [ "$module" != none ] && [ "$(field insmod)" != ok ]; then
		say "the module did not load"
		bad=$((bad ? bad : 125))
	elif [ "$module" != none ] && [ "$(field rmmod)" != ok ]; then
		say "the module did not unload"
		bad=$((bad ? bad : 125))
	fi
	if [ -n "$(field dead)" ]; then
		say "no longer working at the end: $(field dead)"
		bad=$((bad ? bad : 125))
	fi
	return $bad
}

# Did the kernel crash by itself, before anything of ours was loaded or run? Under TCG it now and
# then executes a stale instruction of code that it has patched while booting ("Oops: int3").
died_while_booting()
{
	[ -z "$(field exit)" ] &&
		! grep -q -a -E 'meshhelper: |vm: command starts' "$work/console.log"
}

run_machine()
{
	local attempt rc

	for attempt in 1 2 3; do
		rc=0
		boot || rc=$?
		collect
		judge $rc && return 0 || rc=$?
		died_while_booting || break
		say "the kernel died before our code ran (attempt $attempt of 3)"
	done
	return $rc
}

# What all machines share is made on first use; others that start now wait for it.
prepare()
{
	exec {lock}> "$build/vm/lock"
	flock "$lock"
	"$here/fetch-kernel.sh" "$kernel" "$build/vm/kernel-$kernel" || die "no kernel $kernel"
	"$here/mkinitramfs.sh" "$build/vm/initramfs" || die "no initramfs"
	if [ $rootfs = yes ]; then
		"$here/mkrootfs.sh" "$build/vm/rootfs.img" || die "no root filesystem"
	fi
	accel=$(accelerator)
	exec {lock}>&-
}

main()
{
	local rc=0

	parse_options "$@"
	command -v qemu-system-x86_64 > /dev/null || die "qemu-system-x86_64 is missing: ./run deps"
	mkdir -p "$build/vm"
	prepare
	if [ "$module" = default ]; then
		module=$build/kmod-$kernel/meshhelper.ko
		[ -e "$module" ] || die "$module is missing: ./run build"
	fi
	work=$(mktemp -d "$build/vm/run.XXXXXX")
	# The machine is in a process group of its own, where a signal to ours does not end it.
	trap '[ -z "$qemu" ] || kill $qemu; rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	pack_job
	run_machine || rc=$?
	if [ $rc -ne 0 ]; then
		say "last lines of the kernel's log:"
		tail -n 40 "$work/console.log" | sed 's/^/    /' >&2
		exit $rc
	fi
	exit "$(field exit)"
}

main "$@"
