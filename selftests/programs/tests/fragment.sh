# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# timeout: 120
#
# A heap full of holes, rewritten by threads while it is meshed: every byte right, and
# with the module less memory than before.

. "$PROGRAMS/lib.sh"

watch_merges
mesh "$BENCH/fragment" --objects "$(pick 300000 100000)" --max 256 --free 80 --writers 2 \
	--until-merged "$(patience)" --idle "$(pick 4 8)" | tee out
must_have_merged

# A page that is written to all the time is not merged for long by memfd.
if have_module && ! by_memfd; then
	awk -F '[ ,]+' '/^freed:/ { before = $6 } /^idle/ { after = $8 }
		END {
			print "info: PSS", before, "kB after freeing,", after, "kB after idling"
			exit !(after < 0.9 * before)
		}' out || fail "the process did not get smaller"
fi
