# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# timeout: 90
#
# gcc and g++ compile large generated files: the objects must be the same to the byte.

. "$PROGRAMS/lib.sh"
need gcc g++

awk -v n="$(pick 300 60)" 'BEGIN {
	print "struct s { int a, b; struct s *next; };"
	for (i = 0; i < n; i++) {
		printf "static int f%d(struct s *s, int x)\n{\n\tint i, sum = %d;\n", i, i
		printf "\tfor (i = 0; i < x; i++, s = s->next)\n"
		printf "\t\tsum += s->a * %d + (s->b ^ %d);\n\treturn sum;\n}\n", i * 31 % 97, i
	}
	print "int (*const table[])(struct s *, int) = {"
	for (i = 0; i < n; i++)
		printf "\tf%d,\n", i
	print "};"
}' >large.c
awk -v n="$(pick 60 10)" 'BEGIN {
	print "#include <map>\n#include <string>\n#include <vector>"
	for (i = 0; i < n; i++) {
		printf "template <int N> struct t%d { std::map<int, std::string> m; " \
			"std::vector<t%d<N / 2> *> v; };\n", i, i
		printf "int g%d(t%d<%d> &t) { t.m[%d] += \"x\"; t.v.push_back(nullptr); " \
			"return t.m.size(); }\n", i, i, i + 8, i
	}
}' >large.cc

# --param takes the heap size out of the options the compiler derives from the machine.
fixed="--param ggc-min-expand=30 --param ggc-min-heapsize=8192"
# shellcheck disable=SC2086
{
	gcc $fixed -O2 -c large.c -o plain.o
	mesh gcc $fixed -O2 -c large.c -o meshed.o
	g++ $fixed "-O$(pick 1 0)" -c large.cc -o plain++.o
	mesh g++ $fixed "-O$(pick 1 0)" -c large.cc -o meshed++.o
}
same plain.o meshed.o
same plain++.o meshed++.o
