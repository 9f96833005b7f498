-- The index hnsw over PostgreSQL's type bit.
SET enable_seqscan = off;
CREATE TABLE item (id integer, v bit(3));
INSERT INTO item VALUES (1, B'000'), (2, B'100'), (3, B'111'), (4, NULL);
CREATE INDEX ON item USING hnsw (v bit_hamming_ops);
INSERT INTO item VALUES (5, B'110');
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <~> B'111';
SELECT id, v FROM item ORDER BY v <~> B'111';
SELECT count(*) FROM (SELECT FROM item ORDER BY v <~> (SELECT NULL::bit)) answers;
SELECT * FROM outcome($$SELECT id FROM item ORDER BY v <~> B'11' LIMIT 1$$);
SELECT * FROM outcome($$INSERT INTO item VALUES (6, B'11')$$);
TRUNCATE item;
SELECT id, v FROM item ORDER BY v <~> B'111';
DROP TABLE item;

-- A string without a bit set is in the index of either distance: it has nothing in common with any other.
CREATE TABLE item (id integer, v bit(4));
INSERT INTO item VALUES (1, B'0000'), (2, B'1100'), (3, B'1111'), (4, NULL);
CREATE INDEX ON item USING hnsw (v bit_jaccard_ops);
INSERT INTO item VALUES (5, B'1110');
EXPLAIN (COSTS OFF) SELECT id FROM item ORDER BY v <%> B'1111';
SELECT id, v FROM item ORDER BY v <%> B'1111';
SELECT count(*) FROM (SELECT FROM item ORDER BY v <%> B'0000') answers;
SELECT count(*) FROM (SELECT FROM item ORDER BY v <%> (SELECT NULL::bit)) answers;
DROP TABLE item;

-- The signs of a vector, then the distances of the vectors
CREATE TABLE item (id integer, v vector(3));
INSERT INTO item VALUES (1, '[1,2,-3]'), (2, '[-1,-1,-1]'), (3, '[1,2,4]');
CREATE INDEX ON item USING hnsw ((binary_quantize(v)::bit(3)) bit_hamming_ops);
SELECT id FROM (SELECT * FROM item ORDER BY binary_quantize(v)::bit(3) <~> binary_quantize('[1,1,1]'::vector) LIMIT 2) near
 ORDER BY v <=> '[1,1,1]';
DROP TABLE item;

-- Strings whose length may vary cannot be indexed, but as strings of one length.
CREATE TABLE item (v varbit(3), u bit varying);
SELECT statement, code, message FROM
    unnest(ARRAY['(v bit_hamming_ops)', '(u bit_jaccard_ops)', '((v::bit(3)) bit_hamming_ops)', '((v::bit(64000)) bit_hamming_ops)',
                 '((v::bit(64001)) bit_hamming_ops)', '(v)']) statement,
    outcome('CREATE INDEX ON item USING hnsw ' || statement);
DROP TABLE item;

-- Dimensions
CREATE TABLE item (v bit(64000), w bit(64001));
INSERT INTO item (v) VALUES (repeat('1', 64000)::bit(64000)), (repeat('0', 64000)::bit(64000));
CREATE INDEX ON item USING hnsw (v bit_hamming_ops);
INSERT INTO item (v) VALUES (repeat('10', 32000)::bit(64000));
SELECT v <~> repeat('1', 64000)::bit(64000) AS distance FROM item ORDER BY v <~> repeat('1', 64000)::bit(64000);
SELECT * FROM outcome('CREATE INDEX ON item USING hnsw (w bit_hamming_ops)');
DROP TABLE item;
RESET enable_seqscan;
