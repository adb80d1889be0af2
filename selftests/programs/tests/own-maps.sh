# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# trap: mappings of the application's own
# slow
# timeout: 60
#
# A program that has most of vm.max_map_count itself is merged as far as there is room; it can
# go on making mappings, and gets back what merging has taken. With the module there is no
# mapping to be taken.

. "$PROGRAMS/lib.sh"

[ -z "$IN_VM" ] || change_setting /proc/sys/vm/max_map_count 10000
watch_merges
mesh "$HELPERS/own-maps" 70 >out
sed 's/^/info: /' out
must_have_merged
if have_module && ! by_memfd; then
	awk '{ exit !($4 < $2 + 32) }' out || fail "merging has taken mappings"
fi
