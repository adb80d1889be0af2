# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# timeout: 150
#
# CPython's own tests of allocation-heavy modules, with every object from malloc.

. "$PROGRAMS/lib.sh"
need python3
python3 -c 'import test.test_list' 2>/dev/null || skip "no python testsuite installed"

modules="test_list test_dict test_array test_heapq test_memoryview test_struct test_sort
	test_tuple test_deque"
if [ -z "$SLOW" ]; then
	modules="$modules test_re test_ordered_dict test_xml_etree test_set test_bytes
		test_unicode test_json test_zlib test_itertools test_pickle test_gc test_weakref
		test_collections test_memoryio"
else
	echo "info: emulated processor: the cheaper modules only"
fi
# shellcheck disable=SC2086
PYTHONMALLOC=malloc mesh python3 -m test -q $modules >out 2>&1 || {
	tail -n 40 out
	fail "python3 -m test"
}
echo "info: $(echo "$modules" | wc -w) modules of CPython's testsuite passed"
