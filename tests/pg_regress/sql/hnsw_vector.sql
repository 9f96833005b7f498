-- The index hnsw over the type vector: every distance, what is not in the index, how scans go on, kinds of tables.
-- Nothing here says what the planner prefers.
SET enable_seqscan = off;
CREATE TABLE item (id integer PRIMARY KEY, v vector(3));
INSERT INTO item VALUES (1, '[0,0,0]'), (2, '[1,2,3]'), (3, '[1,1,1]'), (4, NULL);

-- Each distance, over rows from before and after the index was made; rows without a vector are not in it.
CREATE INDEX item_l2 ON item USING hnsw (v vector_l2_ops);
INSERT INTO item VALUES (5, '[1,2,4]'), (6, NULL);
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <-> '[3,3,3]';
SELECT id, v FROM item ORDER BY v <-> '[3,3,3]';
SELECT id, v, v <-> '[3,3,3]' AS distance FROM item ORDER BY v <-> '[3,3,3]' LIMIT 2;
-- The operands the other way around
SELECT id FROM item ORDER BY '[3,3,3]' <-> v LIMIT 2;
DROP INDEX item_l2;

CREATE INDEX item_ip ON item USING hnsw (v vector_ip_ops);
INSERT INTO item VALUES (7, '[2,0,2]');
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <#> '[3,3,4]';
SELECT id, v FROM item ORDER BY v <#> '[3,3,4]';
-- Another distance than the index has
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <-> '[3,3,4]';
DROP INDEX item_ip;

-- A zero vector has no direction: it is not in an index of cosine distances, as in pgvector.
CREATE INDEX item_cosine ON item USING hnsw (v vector_cosine_ops);
INSERT INTO item VALUES (8, '[0,0,0]'), (9, '[-1,-1,-1]');
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <=> '[1,1,2]';
SELECT id, v FROM item ORDER BY v <=> '[1,1,2]';
SELECT count(*) FROM (SELECT FROM item ORDER BY v <=> '[0,0,0]') answers;
DROP INDEX item_cosine;

CREATE INDEX item_l1 ON item USING hnsw (v vector_l1_ops);
DELETE FROM item WHERE id >= 7;
INSERT INTO item VALUES (10, '[9,9,9]');
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <+> '[3,3,5]';
SELECT id, v FROM item ORDER BY v <+> '[3,3,5]';
DROP INDEX item_l1;

-- Farthest first, and a second ordering: not from the index.
CREATE INDEX item_l2 ON item USING hnsw (v vector_l2_ops);
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <-> '[3,3,3]' DESC;
SET enable_incremental_sort = off;
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <-> '[3,3,3]', id;
RESET enable_incremental_sort;

-- No query vector: every row of the index, in any order.
SELECT count(*) FROM (SELECT FROM item ORDER BY v <-> (SELECT NULL::vector)) answers;
-- A query vector of other dimensions
SELECT * FROM outcome($$SELECT id FROM item ORDER BY v <-> '[1,2]' LIMIT 1$$);
-- A row of other dimensions does not come as far as the index.
SELECT * FROM outcome($$INSERT INTO item VALUES (11, '[1,2]')$$);
-- Without ORDER BY there is nothing to scan for.
SELECT count(*) FROM item;
SELECT count(*) FROM item WHERE v <-> '[3,3,3]' < 3;

-- A scan for each row of another table
SELECT near.id, nearest.id AS nearest
  FROM item near CROSS JOIN LATERAL (SELECT id FROM item ORDER BY item.v <-> near.v LIMIT 1) nearest
 WHERE near.v IS NOT NULL ORDER BY near.id;
-- The same plan with another vector
PREPARE nearest(vector) AS SELECT id FROM item ORDER BY v <-> $1 LIMIT 2;
SET plan_cache_mode = force_generic_plan;
EXECUTE nearest('[3,3,3]');
EXECUTE nearest('[0,0,1]');
RESET plan_cache_mode;
DEALLOCATE nearest;
-- A cursor that is read bit by bit
BEGIN;
DECLARE answers CURSOR FOR SELECT id FROM item ORDER BY v <-> '[3,3,3]';
FETCH 2 FROM answers;
INSERT INTO item VALUES (12, '[3,3,3]');
FETCH ALL FROM answers;
ROLLBACK;

-- Rows that are gone
UPDATE item SET v = '[6,6,7]' WHERE id = 2;
DELETE FROM item WHERE id = 3;
SELECT id, v FROM item ORDER BY v <-> '[3,3,3]';
VACUUM item;
SELECT id, v FROM item ORDER BY v <-> '[3,3,3]';
INSERT INTO item VALUES (3, '[1,1,1]'), (12, '[3,3,2]');
SELECT id, v FROM item ORDER BY v <-> '[3,3,3]';
REINDEX INDEX item_l2;
SELECT id, v FROM item ORDER BY v <-> '[3,3,3]';
TRUNCATE item;
SELECT id, v FROM item ORDER BY v <-> '[3,3,3]';
INSERT INTO item VALUES (1, '[1,2,3]');
SELECT id, v FROM item ORDER BY v <-> '[3,3,3]';
DROP TABLE item;

-- Scans that go on beyond the rows found first
CREATE TABLE item (id integer, v vector(3));
INSERT INTO item SELECT n, ARRAY[n, 0, 0] FROM generate_series(1, 200) n;
CREATE INDEX ON item USING hnsw (v vector_l2_ops);
SET hnsw.ef_search = 1;
SET hnsw.iterative_scan = strict_order;
SELECT array_agg(id) FROM (SELECT id FROM item ORDER BY v <-> '[0,0,0]' LIMIT 10) answers;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM item WHERE id % 50 = 0 ORDER BY v <-> '[0,0,0]' LIMIT 4) answers;
SET hnsw.iterative_scan = relaxed_order;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM item ORDER BY v <-> '[0,0,0]' LIMIT 200) answers;
SET hnsw.iterative_scan = off;
SELECT array_agg(id) FROM (SELECT id FROM item ORDER BY v <-> '[0,0,0]' LIMIT 10) answers;
SET hnsw.ef_search = 200;
SELECT count(*) FROM (SELECT id FROM item ORDER BY v <-> '[0,0,0]' LIMIT 200) answers;
TRUNCATE item;
SET hnsw.iterative_scan = strict_order;
SELECT id FROM item ORDER BY v <-> '[0,0,0]';
RESET hnsw.iterative_scan;
RESET hnsw.ef_search;
DROP TABLE item;

-- More rows of one vector than a node has room for
CREATE TABLE item (id integer, v vector(3));
INSERT INTO item SELECT n, '[1,1,1]' FROM generate_series(1, 30) n;
CREATE INDEX ON item USING hnsw (v vector_l2_ops);
INSERT INTO item SELECT n, '[1,1,1]' FROM generate_series(31, 60) n;
SET hnsw.iterative_scan = strict_order;
SELECT count(DISTINCT id) FROM (SELECT id FROM item ORDER BY v <-> '[1,1,1]' LIMIT 60) answers;
RESET hnsw.iterative_scan;
DROP TABLE item;

-- Tables that are not logged, temporary tables, partitions, expressions, conditions, an index made beside others' work
CREATE UNLOGGED TABLE item (id integer, v vector(3));
CREATE INDEX ON item USING hnsw (v vector_l2_ops);
INSERT INTO item VALUES (1, '[1,2,3]'), (2, '[1,1,1]');
SELECT id FROM item ORDER BY v <-> '[1,1,1]';
DROP TABLE item;

CREATE TEMPORARY TABLE item (id integer, v vector(3)) ON COMMIT DELETE ROWS;
CREATE INDEX ON item USING hnsw (v vector_l2_ops);
BEGIN;
INSERT INTO item VALUES (1, '[1,2,3]'), (2, '[1,1,1]');
SELECT id FROM item ORDER BY v <-> '[1,1,1]';
COMMIT;
SELECT id FROM item ORDER BY v <-> '[1,1,1]';
DROP TABLE item;

CREATE TABLE item (id integer, v vector(3)) PARTITION BY RANGE (id);
CREATE TABLE item_low PARTITION OF item FOR VALUES FROM (0) TO (10);
CREATE TABLE item_high PARTITION OF item FOR VALUES FROM (10) TO (20);
CREATE INDEX ON item USING hnsw (v vector_l2_ops);
INSERT INTO item VALUES (1, '[1,2,3]'), (2, '[1,1,1]'), (11, '[1,1,2]'), (12, '[4,4,4]');
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <-> '[1,1,1]' LIMIT 3;
SELECT id FROM item ORDER BY v <-> '[1,1,1]' LIMIT 3;
DROP TABLE item;

CREATE TABLE item (id integer, v vector, kind text);
INSERT INTO item VALUES (1, '[1,2,3]', 'a'), (2, '[1,1,1]', 'a'), (3, '[1,1]', 'b'), (4, '[2,2]', 'b');
CREATE INDEX ON item USING hnsw ((v::vector(3)) vector_l2_ops) WHERE kind = 'a';
CREATE INDEX CONCURRENTLY ON item USING hnsw ((v::vector(2)) vector_l2_ops) WHERE kind = 'b';
SELECT id FROM item WHERE kind = 'a' ORDER BY v::vector(3) <-> '[1,1,1]';
SELECT id FROM item WHERE kind = 'b' ORDER BY v::vector(2) <-> '[2,2]';
SELECT * FROM outcome($$INSERT INTO item VALUES (5, '[1,1]', 'a')$$);
DROP TABLE item;

-- What cannot be indexed
CREATE TABLE item (id integer, v vector, w vector(3));
SELECT statement, code, message FROM
    unnest(ARRAY['(v vector_l2_ops)', '(w)', '(w halfvec_l2_ops)', '(w vector_l2_ops, w vector_ip_ops)', '(w vector_l2_ops) INCLUDE (id)',
                 '(w vector_l2_ops DESC)', '(w vector_l2_ops NULLS FIRST)']) statement,
    outcome('CREATE INDEX ON item USING hnsw ' || statement);
SELECT code, message FROM outcome('CREATE UNIQUE INDEX ON item USING hnsw (w vector_l2_ops)');
DROP TABLE item;

-- Dimensions
CREATE TABLE item (v vector(2000), w vector(16000));
INSERT INTO item VALUES (array_fill(1, ARRAY[2000]), array_fill(1, ARRAY[16000])), (array_fill(2, ARRAY[2000]), array_fill(2, ARRAY[16000]));
CREATE INDEX ON item USING hnsw (v vector_l2_ops);
SELECT v <-> array_fill(2, ARRAY[2000])::vector AS distance FROM item ORDER BY v <-> array_fill(2, ARRAY[2000])::vector;
-- pgvector stops at 2,000.
CREATE INDEX ON item USING hnsw (w vector_l2_ops);
INSERT INTO item (w) VALUES (array_fill(4, ARRAY[16000]));
SELECT round((w <-> array_fill(2, ARRAY[16000])::vector)::numeric, 3) AS distance
  FROM item ORDER BY w <-> array_fill(2, ARRAY[16000])::vector;
DROP TABLE item;

-- Vectors stored out of line, as they are or compressed: rows are read for their exact distances
CREATE TABLE item (id integer, v vector(1200));
ALTER TABLE item ALTER v SET STORAGE EXTERNAL;
INSERT INTO item SELECT n, array(SELECT sin(n * d) FROM generate_series(1, 1200) d)::vector FROM generate_series(1, 40) n;
ALTER TABLE item ALTER v SET STORAGE EXTENDED;
INSERT INTO item SELECT n, array(SELECT CASE WHEN d < 900 THEN sin(n * d) ELSE 0 END FROM generate_series(1, 1200) d)::vector
  FROM generate_series(41, 60) n;
INSERT INTO item SELECT n, array_fill(n / 100.0, ARRAY[1200])::vector FROM generate_series(61, 70) n;
ALTER TABLE item ALTER v SET STORAGE EXTERNAL;
CREATE INDEX ON item USING hnsw (v vector_l2_ops);
UPDATE item SET v = array(SELECT cos(id * d) FROM generate_series(1, 1200) d)::vector WHERE id % 7 = 0;
SELECT q.id, (SELECT array_agg(id) FROM (SELECT id FROM item ORDER BY v <-> q.v) indexed)
           = (SELECT array_agg(id) FROM (SELECT id FROM item ORDER BY (v <-> q.v) + 0) sorted) AS same
  FROM item q WHERE id IN (3, 7, 44, 49, 65) ORDER BY id;
DROP TABLE item;
RESET enable_seqscan;
