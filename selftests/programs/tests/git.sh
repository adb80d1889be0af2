# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# git: a thousand files added, committed, changed, repacked, checked; every object id
# must be that of the same history made without the library.

. "$PROGRAMS/lib.sh"
need git

export GIT_CONFIG_NOSYSTEM=1 HOME=$PWD GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.org
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
files=$(pick 1000 250)

make_files()
{
	awk -v n="$files" -v salt="$1" 'BEGIN {
		for (i = 0; i < n; i++) {
			file = "dir" i % 20 "/file" i
			for (j = 0; j < 40 + i % 60; j++)
				print "line", j, (i * 31 + j * 17 + salt) % 997 >file
			close(file)
		}
	}'
}

history()
{
	"$@" git init -q -b main .
	mkdir $(seq -f 'dir%g' 0 19)
	make_files 1
	"$@" git add .
	"$@" git commit -q -m one
	make_files 2
	"$@" git commit -q -a -m two
	"$@" git gc -q
	"$@" git fsck --full --strict
	"$@" git log --stat
	"$@" git diff HEAD~1
	git rev-list --objects --all | sort
}

mkdir plain meshed
(cd plain && history env >../plain.out 2>&1) || fail "git without the library"
(cd meshed && history mesh >../meshed.out 2>&1) || { tail meshed.out; fail "git"; }
same plain.out meshed.out
[ "$(wc -l <plain.out)" -gt "$files" ] || fail "the history is too short to mean anything"
