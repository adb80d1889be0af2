# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# A program prints nothing that it does not print without the library, unless asked to;
# with everything in place MESH_VERBOSE=1 has nothing to report either.

. "$PROGRAMS/lib.sh"
. "$PROGRAMS/degrade.sh"

mesh "$BENCH/fragment" --objects 100000 --idle 1 >out 2>err || fail "fragment"
[ ! -s err ] || fail "unasked output: $(cat err)"
have_module || exit 0
case $(uname -r) in
6.[0-6].*) exit 0 ;; # no userfaultfd that writes protect asynchronously before 6.7
esac
MESH_VERBOSE=1 mesh "$BENCH/fragment" --objects 100000 --idle 1 >out 2>err
[ ! -s err ] || fail "something is off: $(cat err)"
