#!/bin/sh
# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
#
# environment.sh LINKED - what the environment may say: a wrong value is reported in one line and
# the program runs with the default; right values and other variables are taken in silence. A
# program that has more rights than who runs it, which LINKED gets if this is root, does not listen.

set -eu

# expect VAR=VALUE LINE - what programs that allocate write to standard error
expect()
{
	got=$(env "$1" LD_PRELOAD="$MESH_LIB" sh -c 'echo out | cat' 2>&1 > /dev/null |
		sort -u)
	if [ "$got" != "$2" ]; then
		printf '%s: expected <%s>, got <%s>\n' "$1" "$2" "$got" >&2
		exit 1
	fi
}

expect MESH_PERIOD_MS=abc \
	'libmesh: MESH_PERIOD_MS=abc is not a number from 1 to 3600000, using 100'
expect MESH_PERIOD_MS= \
	'libmesh: MESH_PERIOD_MS= is not a number from 1 to 3600000, using 100'
expect MESH_PERIOD_MS=0 \
	'libmesh: MESH_PERIOD_MS=0 is not a number from 1 to 3600000, using 100'
expect MESH_PERIOD_MS=99999999999999999999 \
	'libmesh: MESH_PERIOD_MS=99999999999999999999 is not a number from 1 to 3600000, using 100'
expect MESH_PERIOD_MS=-1 \
	'libmesh: MESH_PERIOD_MS=-1 is not a number from 1 to 3600000, using 100'
expect MESH_BACKEND=nonsense \
	'libmesh: MESH_BACKEND=nonsense is not one of auto|helper|memfd|none, using the default'
expect MESH_BACKEND=non \
	'libmesh: MESH_BACKEND=non is not one of auto|helper|memfd|none, using the default'
expect MESH_STATS=yes 'libmesh: MESH_STATS=yes is not a number from 0 to 1, using 0'
expect MALLOCSTATS=3 'libmesh: MALLOCSTATS=3 is not a number from 0 to 2, using 0'
expect MALLOCSTATSX=3 ''
expect MESH_BACKGROUND_THREAD=0 ''
expect MESH_FREEPHYS_THREAD=0 ''
expect MESH_PERIOD_MS=200 ''
expect MESH_BACKEND=none ''
expect MESH_PERIOD_MSX=abc ''
expect MESHES=1 ''

# A name that is none of the library's is told on request, once, and without its value.
told=$(env -i MESH_PEROID_MS=5 MESH_VERBOSE=1 "$1" 2>&1 > /dev/null | grep PEROID)
[ "$told" = 'libmesh: ignoring MESH_PEROID_MS: there is no such option' ]

# Without LD_PRELOAD, which the dynamic loader ignores in such a program, too.
wrong='libmesh: MESH_STATS=yes is not a number from 0 to 1, using 0'
[ "$(MESH_STATS=yes "$1" 2>&1 > /dev/null | head -n 1)" = "$wrong" ]
if [ "$(id -u)" -eq 0 ] &&
	MESH_STATS=yes setpriv --ruid 65534 "$1" 2>&1 > /dev/null | grep "$wrong" >&2
then
	exit 1
fi
