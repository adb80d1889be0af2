# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# PHP opens its extensions with RTLD_DEEPBIND, which would have the C library's malloc, and
# gives them memory of its own to free.

. "$PROGRAMS/lib.sh"
need php

cat >script.php <<'END'
<?php
$kept = [];
for ($i = 0; $i < (int)$argv[1]; $i++) {
	$kept[$i] = str_repeat(chr(65 + $i % 26), $i % 2000);
	if ($i % 3)
		unset($kept[$i >> 1]);
}
echo count($kept), " ", md5(serialize($kept)), "\n";
echo count(PDO::getAvailableDrivers()), " drivers\n";
echo iconv("UTF-8", "ISO-8859-1", "gr\u{fc}n") === "gr\xfcn" ? "iconv\n" : "no iconv\n";
END
# These two, whatever the machine has configured.
run=(php -n -d memory_limit=-1 -d extension=pdo.so -d extension=iconv.so
	script.php "$(pick 200000 20000)")
"${run[@]}" >plain || fail "without the library: $(tail -n 1 plain)"
mesh "${run[@]}" >meshed
same plain meshed
grep -q '^iconv$' meshed
