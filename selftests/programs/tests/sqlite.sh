# SPDX-License-Identifier: MIT
# SPDX-FileCopyrightText: The Mesh authors
# shellcheck shell=bash source=selftests/programs/lib.sh
#
# sqlite3: create, index, delete, vacuum; integrity check and query results.

. "$PROGRAMS/lib.sh"
need sqlite3

rows=$(pick 40000 5000)
cat >script.sql <<END
PRAGMA cache_size = -65536;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, size INTEGER, body BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $rows)
	INSERT INTO item SELECT i, 'name' || (i * 7919 % $rows), i * 31 % 1009,
		zeroblob(i % 300) FROM n;
CREATE INDEX by_name ON item (name);
CREATE INDEX by_size ON item (size, name);
DELETE FROM item WHERE id % 3 = 0;
UPDATE item SET body = hex(name) || hex(size) WHERE id % 5 = 0;
VACUUM;
PRAGMA integrity_check;
SELECT count(*), sum(size), sum(length(body)) FROM item;
SELECT size, count(*), group_concat(name, ',') FROM (SELECT * FROM item ORDER BY name)
	GROUP BY size ORDER BY size;
SELECT a.id, b.id FROM item a JOIN item b ON a.name = b.name AND a.id < b.id ORDER BY 1, 2;
END
sqlite3 plain.db <script.sql >plain
mesh sqlite3 meshed.db <script.sql >meshed
grep -qx ok meshed || fail "integrity_check: $(head -n 3 meshed)"
same plain meshed
sqlite3 meshed.db 'PRAGMA integrity_check' | grep -qx ok || fail "the file is damaged"
