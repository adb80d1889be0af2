# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# The library is in the process and the program's malloc is its malloc. Without this,
# every other test could pass by not testing anything.

. "$PROGRAMS/lib.sh"

mesh cat /proc/self/maps >maps
grep -q "$PRELOAD" maps || fail "the library is not mapped"

LD_BIND_NOW=1 LD_DEBUG=bindings LD_DEBUG_OUTPUT=bindings mesh sort /dev/null
for symbol in malloc calloc realloc free; do
	grep -h "binding file sort .*\`$symbol'" bindings.* | grep -q " to $PRELOAD " ||
		fail "$symbol does not come from the library"
done
