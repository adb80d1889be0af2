# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# timeout: 60
#
# Threads that allocate and free at random, in their own tables and in a common one,
# where most objects are freed by another thread. Every payload is checked.

. "$PROGRAMS/lib.sh"

ops=$(pick 600000 60000)
mesh "$BENCH/churn" --threads 4 --ops "$ops"
mesh "$BENCH/churn" --threads 4 --ops "$ops" --shared
mesh "$BENCH/churn" --threads 16 --ops $((ops / 8)) --slots 2000 --max 40000 --shared
