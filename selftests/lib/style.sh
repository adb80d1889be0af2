#!/bin/bash
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# style.sh - what can be checked without running anything, in TAP.
#
# Every file names its licence, scripts pass shellcheck, kernel code passes checkpatch.pl and
# coccicheck (from the unpacked kernel source), sparse and gcc's W=1, documents are valid and have
# what the sources have, and only user/os.c makes system calls.

set -u
top=$(realpath "$(dirname "$(readlink -f "$0")")/../..")
build=${MESH_BUILD:-$top/build}
count=0
# shellcheck source=selftests/vm/kernels.sh
. "$top/selftests/vm/kernels.sh"

# report NAME PROBLEMS: one TAP line; no problems are good.
report()
{
	count=$((count + 1))
	if [ -z "$2" ]; then
		echo "ok $count - $1"
	else
		printf '%s\n' "$2" | head -n 50 | sed 's/^/# /'
		echo "not ok $count - $1"
	fi
}

# files [DIRECTORY]: all of the project, tracked or about to be. In a tarball, and where git does
# not trust who owns the tree, those that no build has made.
files()
{
	if git ls-files > /dev/null 2>&1; then
		git ls-files --cached --others --exclude-standard "$@"
	else
		find "${@:-.}" \( -path './build*' -o -path ./.git \) -prune -o -type f \
			! -name '*.o' ! -name '*.ko' ! -name '*.mod' ! -name '*.mod.c' \
			! -name '*.cmd' ! -name 'Module.symvers' ! -name 'modules.order' -print |
			sed 's,^\./,,'
	fi | while read -r file; do
		[ ! -f "$file" ] || echo "$file"
	done
}

is_script()
{
	head -n 1 "$1" | grep -q -E '^#!.*\b(ba)?sh\b' ||
		head -n 4 "$1" | grep -q '^# shellcheck shell='
}

scripts()
{
	files | while read -r file; do
		if is_script "$file" 2> /dev/null; then
			echo "$file"
		fi
	done
}

# Pictures, logs, licence texts and JSON cannot carry the line.
check_spdx()
{
	files | grep -v -E '\.(png|svg|log|json|csv|license)$|^LICENSES/' | while read -r file; do
		if ! head -n 6 "$file" | grep -q 'SPDX-License-Identifier: '; then
			echo "$file: no SPDX-License-Identifier"
		elif ! head -n 6 "$file" | grep -q 'SPDX-FileCopyrightText: '; then
			echo "$file: no SPDX-FileCopyrightText"
		fi
	done
}

# Each part of the tree has one licence.
check_licences()
{
	files kmod | grep -v '\.license$' | xargs -r -d '\n' grep -L 'Identifier: GPL-2.0-only' |
		sed 's/$/: not GPL-2.0-only/'
	files user | xargs -r -d '\n' grep -L 'Identifier: MIT' | sed 's/$/: not MIT/'
	files uapi | xargs -r -d '\n' grep -L -F '(GPL-2.0 WITH Linux-syscall-note) OR MIT' |
		sed 's/$/: not the licence of the interface/'
}

check_shell()
{
	scripts | xargs -r -d '\n' shellcheck -x -f gcc
}

# Trailing blanks, missing newlines at the end, lines that are too long.
check_whitespace()
{
	files | grep -E '\.([ch]|cc|sh|py|def|txt|rst|md)$|(^|/)(run|init|Makefile|Kbuild)$' |
		grep -v -E '^LICENSES/' | while read -r file; do
		grep -n -H -E '[[:blank:]]$' "$file" | sed 's/:[^:]*$/: trailing blank/'
		[ -z "$(tail -c 1 "$file")" ] || echo "$file: no newline at the end"
	done
	# A tab is eight columns. Formats of tracepoints cannot be broken into lines.
	files | grep -E '\.([ch]|cc|sh|py|def|txt)$|(^|/)(run|init|Makefile|Kbuild)$' |
		grep -v -E '^LICENSES/' | while read -r file; do
		expand "$file" | awk -v file="$file" '
			length > 100 && !/TP_printk\("/ {
				print file ":" NR ": " length " columns" }'
	done
}

# Ignored: the kernel version is an out-of-tree module's business, BIT() is not for user space, and
# tables written as X-macros are not what the checks of macros have in mind.
# Headers of tracepoints are laid out differently everywhere in the kernel.
check_kernel_style()
{
	local ignore=LINUX_VERSION_CODE,SPDX_LICENSE_TAG,BIT_MACRO,COMPLEX_MACRO,MACRO_ARG_REUSE

	ignore=$ignore,MACRO_ARG_UNUSED
	files kmod uapi | grep '\.[ch]$' | grep -v '/trace\.h$' | checkpatch $ignore
	files kmod | grep '/trace\.h$' | checkpatch $ignore,PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE
}

# checkpatch IGNORE: the files whose names it reads.
checkpatch()
{
	xargs -r -d '\n' perl "$build/ksft/scripts/checkpatch.pl" --no-tree --strict --terse \
		--no-summary --max-line-length=100 --ignore "$1" --file 2>&1
}

# check_kernel_build KERNEL: no warning from gcc with W=1, nor from sparse. Built from nothing, for
# what is not compiled is not looked at.
check_kernel_build()
{
	local dir=$build/test/static-$1

	rm -rf "$dir"
	"$top/selftests/vm/build-kmod.sh" "$build/vm/kernel-$1/kdir" "$dir" C=2 W=1 \
		> "$dir.log" 2>&1 || echo "the build fails: $dir.log"
	grep -q '  CHECK  ' "$dir.log" || echo "sparse has not run: $dir.log"
	grep -E 'warning:|error:' "$dir.log" || true
}

# cocci_sources DIR: a copy of the kernel code, without what is built next to it. One file more has
# an error in it, and a spatch that does not see that one sees nothing.
cocci_sources()
{
	rm -rf "$1"
	mkdir -p "$1"
	files kmod uapi | grep '\.[ch]$' | xargs -d '\n' cp --parents -t "$1"
	cat > "$1/planted.c" <<-'END'
		int planted(struct thing *thing)
		{
			kfree(thing);
			return thing->member;
		}
	END
}

# cocci_includes KERNEL: where that kernel has its headers, as kbuild says it.
cocci_includes()
{
	local headers

	headers=$(echo "$build/vm/kernel-$1"/root/usr/src/linux-headers-*-common)
	printf -- '-I%s ' "$headers/arch/x86/include" "$headers/include" "$headers/include/uapi" \
		"$top/uapi"
	echo "-include $headers/include/linux/kconfig.h"
}

# cocci_scripts KERNEL: those that report, and need no OCaml compiler (2 of 73 do). What looks at no
# header finds the same whatever the kernel, and one kernel is enough; kfree sees the planted error.
cocci_scripts()
{
	local scripts=$build/ksft/scripts/coccinelle

	grep -r -l '^virtual.*\breport\b' "$scripts" | xargs grep -L 'script:ocaml' |
		if [ "$1" = "${kernels[0]}" ]; then
			cat
		else
			xargs grep -L -e '--no-includes'
			echo "$scripts/free/kfree.cocci"
		fi | sort
}

# check_coccinelle KERNEL: nothing to report for all of the kernel's semantic patches.
check_coccinelle()
{
	local dir=$build/test/cocci-$1 log=$build/test/cocci-$1/log scripts

	scripts=$(cocci_scripts "$1")
	[ "$(echo "$scripts" | wc -l)" -gt 10 ] || echo "semantic patches are missing: ./run build"
	cocci_sources "$dir/src"
	rm -rf "$log"
	mkdir -p "$log"
	export MODE=report KBUILD_EXTMOD=$dir/src srctree=$build/ksft J=1
	LINUXINCLUDE=$(cocci_includes "$1")
	export LINUXINCLUDE
	# shellcheck disable=SC2016 # to be expanded by that shell
	echo "$scripts" | xargs -P "$(nproc)" -I '{}' sh -c '
		COCCI=$1 timeout 120 "$srctree/scripts/coccicheck" \
			> "$2/$(basename "$1").log" 2>&1 ||
			echo "$1: not finished, or failed"' sh '{}' "$log"
	echo "$scripts" | sed "s,.*/\(.*\),$log/\1.log," | xargs grep -L '/spatch -D report ' |
		sed 's/$/: spatch has not run/'
	grep -q 'planted\.c:4:.*free' "$log/kfree.cocci.log" ||
		echo 'the planted error was not seen'
	# What coccicheck and spatch say of themselves.
	sed -E '/^$/d; /^Please check |^When using |\/spatch -D report /d
		/^warning: line [0-9]+: should [a-z_]+ be a metavariable\?/d
		/\/planted\.c:/d' "$log"/*.log
}

# Every system call of the library goes through os.c, and its headers.
check_system_calls()
{
	local calls='mmap|munmap|mremap|madvise|mprotect|ioctl|open|openat|close|read|write|syscall'

	calls="$calls|close_range|poll|ppoll|epoll_[a-z]+|signalfd|userfaultfd|futex|fork|clone"
	calls="$calls|io_uring_setup|io_uring_enter|io_uring_register|getrandom|tgkill|prctl|fcntl"
	files user | grep '\.c$' | grep -v '^user/os\.c$' | while read -r file; do
		# Comments and strings may name them.
		sed -E 's,/\*.*\*/,,; s,//.*,,; s,"[^"]*",,g; /^[[:space:]]*\/?\*/d' "$file" |
			grep -n -E "(^|[^[:alnum:]_.>])($calls)\(|sys/syscall\.h" |
			sed "s,^,$file: ,"
	done
}

# What the module offers, as its sources say: attributes, fdinfo keys, ioctls, and tracepoints with
# each field that they print. One in each line, in the words of Documentation/ABI.
abi_in_code()
{
	sed -n 's/^\tX(\([a-z_]*\)).*/\1/p; s/^\tX(\([a-z]*\), E.*/merge_aborts_\1_total/p
		s/^MH_COUNTER_ATTR(\([a-z_]*\))$/\1/p; /(name)/d
		s/^static DEVICE_ATTR_R[OW](\([a-z_]*\)).*/\1/p' kmod/meshhelper.h kmod/*.c |
		sed 's,^,/sys/class/misc/meshhelper/,'
	sed -n 's/.*"\(mesh-[a-z-]*\)%s:.*/\1\n\1-<arena>/p; s/.*"\(mesh-[a-z-]*\):.*/\1/p' \
		kmod/*.c | sed 's,^,/proc/<pid>/fdinfo/<fd> ,'
	sed -n '/IOC_MAGIC\t/d; s/^#define \(MESHHELPER_IOC_[A-Z_]*\).*/\1/p' \
		uapi/linux/meshhelper.h | sed 's,^,/dev/meshhelper ,'
	awk -F '[(,]' '
		/^(TRACE|DEFINE)_EVENT/ {
			event = "/sys/kernel/tracing/events/meshhelper/" $2
			print event
		}
		/TP_printk\(/ {
			for (n = split($0, word, /["= ]/); n; n--)
				if (index($0, word[n] "=") && word[n] ~ /^[a-z_]+$/)
					print event " " word[n]
		}' kmod/trace.h
}

# The same as documented. A field is the first word of a line of a table.
abi_in_documents()
{
	awk '
		/^What:/ {
			sub(/^What:\t*/, "")
			what = $0
			if (what != "/dev/meshhelper")
				print what
		}
		what ~ /tracing/ && /^\t\t[a-z_]+  / { print what " " $1 }' \
		Documentation/ABI/testing/*
}

# Each entry is complete, and there is one for everything that is in the code, and no other.
check_abi()
{
	local whats tag

	diff <(abi_in_code | sort) <(abi_in_documents | sort) |
		sed -n 's/^</not in Documentation\/ABI:/p; s/^>/only in Documentation\/ABI:/p'
	[ "$(abi_in_code | grep -c .)" -gt 50 ] || echo 'the sources are not understood'
	# Several What: lines may follow each other in one entry.
	whats=$(awk '/^What:/ && !what { n++ } { what = /^What:/ } END { print n }' \
		Documentation/ABI/testing/*)
	for tag in Date KernelVersion Contact Description; do
		[ "$(cat Documentation/ABI/testing/* | grep -c "^$tag:")" -eq "$whats" ] ||
			echo "Documentation/ABI: not every entry has $tag:"
	done
}

# Documents are valid reStructuredText.
check_rst()
{
	local file

	for file in Documentation/*.rst; do
		/usr/bin/python3 -m docutils --report=2 --exit-status=2 "$file" /dev/null 2>&1 ||
			echo "$file: not valid"
	done
}

# What documents name is there: other pages, files and directories of the tree. Programs are named
# without the ending of their source.
check_references()
{
	local file name
	# shellcheck disable=SC2016 # these are backquotes
	local paths='[`(](Documentation|kmod|selftests|uapi|user)/[A-Za-z0-9_./-]*[`)]'

	for file in Documentation/*.rst README.md; do
		grep -o -E '[a-z-]+\.rst' "$file" | sort -u | while read -r name; do
			[ -e "Documentation/$name" ] || echo "$file: there is no $name"
		done
		grep -o -E "$paths" "$file" | tr -d '`()' | sort -u | while read -r name; do
			[ -e "$name" ] || [ -e "$name.c" ] || echo "$file: there is no $name"
		done
	done
}

# Each source file is in the list of design.rst.
check_source_list()
{
	local name

	files kmod user | sed -n 's,.*/\([a-z_]*\)\.[ch]$,\1,p' | sort -u | while read -r name; do
		grep -q "\`\`$name\`\`" Documentation/design.rst ||
			echo "design.rst: what is $name for?"
	done
}

# Names, values and defaults as in the sources, in the form of options.rst.
options_in_code()
{
	cpp -P -I user - <<-'END' | sed -n 's/ 0 to 1,/ 0 or 1,/; s/^option: //p' | tr -d '"'
		#include "options.h"
		#define OPTION_UINT(f, n, def, min, max, help) option: n: min to max, default def
		#define OPTION_ENUM(f, n, def, words, help) option: n: words, default word def
		#include "options.def"
	END
}

options_in_documents()
{
	# shellcheck disable=SC2016 # these are backquotes
	sed -n -E 's/^``(M[A-Z_]+)``: (.*, default .*)/\1: \2/p' Documentation/options.rst
}

# An enumeration's default is the number of a word.
check_options()
{
	diff <(options_in_code | awk '/ default word / {
			split($2, words, /[|,]/)
			sub(/word .*/, words[$NF + 1])
		} { print }' | sort) <(options_in_documents | sort) |
		sed -n 's/^</not in options.rst:/p; s/^>/only in options.rst:/p'
	[ "$(options_in_code | grep -c .)" -gt 10 ] || echo 'options.def is not understood'
}

cd "$top" || exit 1
echo 'TAP version 13'
report 'every file names its licence' "$(check_spdx)"
report 'each part has its licence' "$(check_licences)"
report 'shellcheck' "$(check_shell)"
report 'whitespace and line length' "$(check_whitespace)"
if [ -e "$build/ksft/scripts/checkpatch.pl" ]; then
	report 'checkpatch.pl on kmod and uapi' "$(check_kernel_style)"
else
	report 'checkpatch.pl on kmod and uapi' "no checkpatch.pl in $build/ksft: ./run build"
fi
for kernel in "${kernels[@]}"; do
	report "sparse and W=1 on $kernel" "$(check_kernel_build "$kernel")"
	report "coccicheck on $kernel" "$(check_coccinelle "$kernel")"
done
report 'Documentation/ABI has what the module offers' "$(check_abi)"
report 'documents are valid' "$(check_rst)"
report 'what documents name is there' "$(check_references)"
report 'design.rst has each source file' "$(check_source_list)"
report 'options.rst has what options.def has' "$(check_options)"
report 'system calls only in user/os.c' "$(check_system_calls)"
echo "1..$count"
