-- SPDX-License-Identifier: MIT
-- SPDX-FileCopyrightText: The Mesh authors
-- A database in memory: inserts, an index, joins, and rows that go.
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000)
INSERT INTO item SELECT i, 'name ' || (i * 7919 % 100003), i % 977 FROM n;
CREATE INDEX item_name ON item (name);
SELECT count(*), sum(a.price) FROM item a JOIN item b ON b.name = 'name ' || a.price;
DELETE FROM item WHERE id % 3 = 0;
UPDATE item SET name = name || ' ' || hex(randomblob(20)) WHERE id % 5 = 0;
SELECT price, group_concat(name) FROM item GROUP BY price ORDER BY price LIMIT 3;
CREATE TABLE other AS SELECT name, count(*) AS n FROM item GROUP BY substr(name, 1, 8);
SELECT sum(n) FROM other;
