# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash disable=SC2034
#
# kernels.sh - the kernels that are tested, sourced; the first is the default.

kernels=(6.12 6.1 7.3)
