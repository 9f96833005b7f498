-- The index hnsw over the type sparsevec: what hnsw_vector.sql shows in detail, for this type.
SET enable_seqscan = off;
CREATE TABLE item (id integer, v sparsevec(3));
INSERT INTO item VALUES (1, '{}/3'), (2, '{1:1,2:2,3:3}/3'), (3, '{1:1,2:1,3:1}/3'), (4, NULL);

CREATE INDEX item_l2 ON item USING hnsw (v sparsevec_l2_ops);
INSERT INTO item VALUES (5, '{1:1,2:2,3:4}/3');
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <-> '{1:3,2:3,3:3}/3';
SELECT id, v FROM item ORDER BY v <-> '{1:3,2:3,3:3}/3';
SELECT count(*) FROM (SELECT FROM item ORDER BY v <-> (SELECT NULL::sparsevec)) answers;
SELECT * FROM outcome($$SELECT id FROM item ORDER BY v <-> '{1:1}/2' LIMIT 1$$);
SELECT * FROM outcome($$INSERT INTO item VALUES (11, '{1:1}/2')$$);
DROP INDEX item_l2;

CREATE INDEX item_ip ON item USING hnsw (v sparsevec_ip_ops);
INSERT INTO item VALUES (6, '{1:2,3:2}/3');
SELECT id, v FROM item ORDER BY v <#> '{1:3,2:3,3:4}/3';
DROP INDEX item_ip;

CREATE INDEX item_cosine ON item USING hnsw (v sparsevec_cosine_ops);
INSERT INTO item VALUES (7, '{}/3'), (8, '{1:-1,2:-1,3:-1}/3');
SELECT id, v FROM item ORDER BY v <=> '{1:1,2:1,3:2}/3';
SELECT count(*) FROM (SELECT FROM item ORDER BY v <=> '{}/3') answers;
DROP INDEX item_cosine;

DELETE FROM item WHERE id IN (6, 7, 8);
CREATE INDEX item_l1 ON item USING hnsw (v sparsevec_l1_ops);
INSERT INTO item VALUES (9, '{1:9,2:9,3:9}/3');
SELECT id, v FROM item ORDER BY v <+> '{1:3,2:3,3:5}/3';
TRUNCATE item;
SELECT id, v FROM item ORDER BY v <+> '{1:3,2:3,3:5}/3';
DROP TABLE item;

-- As many dimensions as the type has
CREATE TABLE item (id integer, v sparsevec(1000000000));
INSERT INTO item VALUES (1, '{1:1,1000000000:2}/1000000000'), (2, '{1:1}/1000000000');
CREATE INDEX ON item USING hnsw (v sparsevec_l2_ops);
INSERT INTO item VALUES (3, '{1000000000:2}/1000000000');
SELECT id FROM item ORDER BY v <-> '{1000000000:3}/1000000000';
DROP TABLE item;

-- Elements that are not zero: pgvector stops at 1,000.
CREATE TABLE item (id integer, v sparsevec(16000));
INSERT INTO item VALUES (1, array_fill(1, ARRAY[16000])::vector::sparsevec), (2, '{1:1}/16000');
CREATE INDEX ON item USING hnsw (v sparsevec_l2_ops);
INSERT INTO item VALUES (3, array_fill(3, ARRAY[16000])::vector::sparsevec);
SELECT id FROM item ORDER BY v <-> array_fill(2.5, ARRAY[16000])::vector::sparsevec;
DROP TABLE item;
RESET enable_seqscan;
