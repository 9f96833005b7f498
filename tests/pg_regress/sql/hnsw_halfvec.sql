-- The index hnsw over the type halfvec: what hnsw_vector.sql shows in detail, for this type.
SET enable_seqscan = off;
CREATE TABLE item (id integer, v halfvec(3));
INSERT INTO item VALUES (1, '[0,0,0]'), (2, '[1,2,3]'), (3, '[1,1,1]'), (4, NULL);

CREATE INDEX item_l2 ON item USING hnsw (v halfvec_l2_ops);
INSERT INTO item VALUES (5, '[1,2,4]');
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <-> '[3,3,3]';
SELECT id, v FROM item ORDER BY v <-> '[3,3,3]';
SELECT count(*) FROM (SELECT FROM item ORDER BY v <-> (SELECT NULL::halfvec)) answers;
SELECT * FROM outcome($$SELECT id FROM item ORDER BY v <-> '[1,2]' LIMIT 1$$);
SELECT * FROM outcome($$INSERT INTO item VALUES (11, '[1,2]')$$);
DROP INDEX item_l2;

CREATE INDEX item_ip ON item USING hnsw (v halfvec_ip_ops);
INSERT INTO item VALUES (6, '[2,0,2]');
SELECT id, v FROM item ORDER BY v <#> '[3,3,4]';
DROP INDEX item_ip;

CREATE INDEX item_cosine ON item USING hnsw (v halfvec_cosine_ops);
INSERT INTO item VALUES (7, '[0,0,0]'), (8, '[-1,-1,-1]');
SELECT id, v FROM item ORDER BY v <=> '[1,1,2]';
SELECT count(*) FROM (SELECT FROM item ORDER BY v <=> '[0,0,0]') answers;
DROP INDEX item_cosine;

DELETE FROM item WHERE id IN (6, 7, 8);
CREATE INDEX item_l1 ON item USING hnsw (v halfvec_l1_ops);
INSERT INTO item VALUES (9, '[9,9,9]');
SELECT id, v FROM item ORDER BY v <+> '[3,3,5]';
TRUNCATE item;
SELECT id, v FROM item ORDER BY v <+> '[3,3,5]';
DROP TABLE item;

-- Half precision of a column of single precision
CREATE TABLE item (id integer, v vector(3));
INSERT INTO item VALUES (1, '[1,2,3]'), (2, '[1,1,1]'), (3, '[1,2,4]');
CREATE INDEX ON item USING hnsw ((v::halfvec(3)) halfvec_cosine_ops);
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v::halfvec(3) <=> '[1,2,5]' LIMIT 2;
SELECT id FROM item ORDER BY v::halfvec(3) <=> '[1,2,5]' LIMIT 2;
DROP TABLE item;

-- Dimensions: pgvector stops at 4,000.
CREATE TABLE item (v halfvec(4000), w halfvec(16000));
CREATE INDEX ON item USING hnsw (v halfvec_l2_ops);
CREATE INDEX ON item USING hnsw (w halfvec_l2_ops);
INSERT INTO item (w) VALUES (array_fill(1, ARRAY[16000])), (array_fill(4, ARRAY[16000]));
SELECT round((w <-> array_fill(2, ARRAY[16000])::halfvec)::numeric, 3) AS distance
  FROM item ORDER BY w <-> array_fill(2, ARRAY[16000])::halfvec;
DROP TABLE item;
RESET enable_seqscan;
