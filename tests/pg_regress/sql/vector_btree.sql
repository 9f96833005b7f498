-- B-tree indexes, sorting, grouping and uniqueness of the three types.
CREATE TABLE sorted (id integer PRIMARY KEY, v vector(3), h halfvec(3), s sparsevec(3));
INSERT INTO sorted
SELECT i, a::vector, a::halfvec, a::sparsevec
  FROM generate_series(1, 2000) i, LATERAL (SELECT ARRAY[i * 37 % 11 - 5, i * 17 % 7 - 3, i * 7 % 50]) t (a);
INSERT INTO sorted VALUES (3001, NULL, NULL, NULL), (3002, '[0,0,0]', '[0,0,0]', '{}/3'), (3003, '[-0,0,0]', '[-0,0,0]', '{1:-0}/3');
CREATE INDEX sorted_v ON sorted (v);
CREATE INDEX sorted_h ON sorted (h);
CREATE INDEX sorted_s ON sorted (s);
ANALYZE sorted;

-- Plans: the index finds and sorts.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM sorted WHERE v = '[1,2,3]';
EXPLAIN (COSTS OFF) SELECT * FROM sorted WHERE h = '[1,2,3]';
EXPLAIN (COSTS OFF) SELECT * FROM sorted WHERE s = '{1:1,2:2,3:3}/3';
EXPLAIN (COSTS OFF) SELECT * FROM sorted WHERE v > '[1,2,3]' AND v <= '[2]';
EXPLAIN (COSTS OFF) SELECT v FROM sorted ORDER BY v LIMIT 1;
EXPLAIN (COSTS OFF) SELECT h FROM sorted ORDER BY h DESC LIMIT 1;
EXPLAIN (COSTS OFF) SELECT s FROM sorted ORDER BY s LIMIT 1;
EXPLAIN (COSTS OFF) SELECT count(*) FROM sorted WHERE v = ANY (ARRAY['[1,2,3]'::vector, '[0,0,0]']);
-- The operand of the other type is cast; an index of the column that is cast does not help.
EXPLAIN (COSTS OFF) SELECT * FROM sorted WHERE h = '[1,2,3]'::vector;
EXPLAIN (COSTS OFF) SELECT * FROM sorted WHERE v = '[1,2,3]'::halfvec;

-- What the index finds
SELECT v FROM sorted ORDER BY v LIMIT 3;
SELECT h FROM sorted WHERE h IS NOT NULL ORDER BY h DESC LIMIT 3;
SELECT s FROM sorted ORDER BY s LIMIT 3;
SELECT s FROM sorted WHERE s IS NOT NULL ORDER BY s DESC LIMIT 3;
SELECT v, count(*) FROM sorted WHERE v >= '[5,3]' GROUP BY v ORDER BY v DESC LIMIT 3;
SELECT id FROM sorted WHERE v = '[0,0,0]' AND id > 2000 ORDER BY id;
SELECT id FROM sorted WHERE h = '[0,0,0]' AND id > 2000 ORDER BY id;
SELECT id FROM sorted WHERE s = '{}/3' AND id > 2000 ORDER BY id;
CREATE TABLE by_index AS SELECT
    (SELECT count(*) FROM sorted WHERE v < '[0,1]') AS v_lt, (SELECT count(*) FROM sorted WHERE v <= '[0,1,2]') AS v_le,
    (SELECT count(*) FROM sorted WHERE v = '[0,0,0]') AS v_eq, (SELECT count(*) FROM sorted WHERE v >= '[0,1,2]') AS v_ge,
    (SELECT count(*) FROM sorted WHERE v > '[0,1,2,3]') AS v_gt, (SELECT count(*) FROM sorted WHERE v <> '[0,0,0]') AS v_ne,
    (SELECT count(*) FROM sorted WHERE h < '[0,1]') AS h_lt, (SELECT count(*) FROM sorted WHERE h >= '[0,1,2]') AS h_ge,
    (SELECT count(*) FROM sorted WHERE s < '{2:1}/3') AS s_lt, (SELECT count(*) FROM sorted WHERE s >= '{2:1}/3') AS s_ge,
    (SELECT array_agg(v) FROM (SELECT v FROM sorted ORDER BY v) t) AS v_sorted, (SELECT array_agg(h) FROM (SELECT h FROM sorted ORDER BY h) t) AS h_sorted,
    (SELECT array_agg(s) FROM (SELECT s FROM sorted ORDER BY s) t) AS s_sorted;
RESET enable_seqscan;
RESET enable_bitmapscan;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET enable_bitmapscan = off;
SELECT v_lt, v_le, v_eq, v_ge, v_gt, v_ne, h_lt, h_ge, s_lt, s_ge FROM by_index;
SELECT v_lt = (SELECT count(*) FROM sorted WHERE v < '[0,1]') AS v_lt, v_le = (SELECT count(*) FROM sorted WHERE v <= '[0,1,2]') AS v_le,
       v_eq = (SELECT count(*) FROM sorted WHERE v = '[0,0,0]') AS v_eq, v_ge = (SELECT count(*) FROM sorted WHERE v >= '[0,1,2]') AS v_ge,
       v_gt = (SELECT count(*) FROM sorted WHERE v > '[0,1,2,3]') AS v_gt, v_ne = (SELECT count(*) FROM sorted WHERE v <> '[0,0,0]') AS v_ne,
       h_lt = (SELECT count(*) FROM sorted WHERE h < '[0,1]') AS h_lt, h_ge = (SELECT count(*) FROM sorted WHERE h >= '[0,1,2]') AS h_ge,
       s_lt = (SELECT count(*) FROM sorted WHERE s < '{2:1}/3') AS s_lt, s_ge = (SELECT count(*) FROM sorted WHERE s >= '{2:1}/3') AS s_ge,
       v_sorted = (SELECT array_agg(v) FROM (SELECT v FROM sorted ORDER BY v) t) AS v_sorted,
       h_sorted = (SELECT array_agg(h) FROM (SELECT h FROM sorted ORDER BY h) t) AS h_sorted,
       s_sorted = (SELECT array_agg(s) FROM (SELECT s FROM sorted ORDER BY s) t) AS s_sorted,
       v_sorted::text = replace(s_sorted::vector[]::text, '-0', '0') OR v_sorted = s_sorted::vector[] AS same_order
  FROM by_index;
RESET enable_indexscan;
RESET enable_indexonlyscan;
RESET enable_bitmapscan;

-- Grouping is by sorting: there is no hash.
SELECT count(DISTINCT v), count(DISTINCT h), count(DISTINCT s) FROM sorted;
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT v || '[1]'::vector, count(*) FROM sorted GROUP BY 1;
RESET enable_sort;
SELECT count(*) FROM sorted a JOIN sorted b ON a.v = b.v AND a.h = b.h AND a.s = b.s WHERE a.id > 3000;
-- A merge join, the only one that = allows besides a nested loop
SET enable_nestloop = off;
SET enable_hashjoin = off;
SELECT count(*) FROM sorted a JOIN sorted b USING (v) WHERE a.id < 100;
RESET enable_nestloop;
RESET enable_hashjoin;

-- Uniqueness: 0 and -0 are the same; NULL is not.
CREATE TABLE unique_vectors (v vector UNIQUE, h halfvec UNIQUE, s sparsevec UNIQUE);
INSERT INTO unique_vectors VALUES ('[1,2]', '[1,2]', '{1:1,2:2}/2'), ('[1]', '[1]', '{1:1}/1'), ('[1,2,0]', '[1,2,0]', '{1:1,2:2}/3'),
    ('[0]', '[0]', '{}/1'), (NULL, NULL, NULL), (NULL, NULL, NULL);
SELECT s, code, message, detail FROM unnest(ARRAY[
    $$(v) VALUES ('[1,2]')$$, $$(h) VALUES ('[1,2]')$$, $$(s) VALUES ('{2:2,1:1}/2')$$, $$(v) VALUES ('[-0]')$$, $$(h) VALUES ('[-0]')$$,
    $$(s) VALUES ('{1:0}/1')$$, $$(v) VALUES ('[1,2,0,0]')$$, $$(v) VALUES (NULL)$$, $$(v) VALUES ('[1,2]') ON CONFLICT DO NOTHING$$,
    $$(s) VALUES ('{}/1') ON CONFLICT (s) DO UPDATE SET s = '{}/2'$$])
    WITH ORDINALITY u (s, n), outcome('INSERT INTO unique_vectors ' || s) ORDER BY n;
TABLE unique_vectors ORDER BY v, h, s;
CREATE TABLE keyed (v vector(2) PRIMARY KEY);
CREATE TABLE referring (v vector(2) REFERENCES keyed);
INSERT INTO keyed VALUES ('[1,2]');
INSERT INTO referring VALUES ('[1,2]');
SELECT code, message, detail FROM outcome($$INSERT INTO referring VALUES ('[2,1]')$$);
-- An index entry has room for no long vector.
CREATE TABLE wide (v vector);
CREATE INDEX wide_v ON wide (v);
SELECT code, regexp_replace(message, 'size \d+', 'size N') AS message
  FROM outcome($$INSERT INTO wide SELECT array_agg(n)::vector FROM generate_series(1, 1000) n$$);
-- Other access methods need an operator class of theirs.
SELECT s, code, message FROM unnest(ARRAY[
    'hash (v)', 'gin (v)', 'brin (v)', 'spgist (v)', 'hash (h)', 'hash (s)']) WITH ORDINALITY u (s, n),
    outcome('CREATE INDEX ON sorted USING ' || s) ORDER BY n;
DROP TABLE sorted, by_index, unique_vectors, referring, keyed, wide;
