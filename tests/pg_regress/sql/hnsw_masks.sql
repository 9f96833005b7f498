-- Searches with a mask: clauses on columns that the index hnsw does not have, answered by other indexes.
CREATE TABLE masked (
    id integer PRIMARY KEY, v vector(64), number integer, word text, tags integer[], document jsonb, place integer, other integer
);
-- Rows whose vectors, and all else, follow from their numbers.
CREATE FUNCTION fill_masked(first integer, last integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO masked
    SELECT g, ARRAY(SELECT (g * (e * e + 7)::bigint * 7919 % 10007) / 10007.0 FROM generate_series(1, 64) AS e)::vector(64),
           g % 1000, 'word' || g % 50, ARRAY[g % 40, g % 7 + 100], jsonb_build_object('k' || g % 5, g % 20), g, g % 3
      FROM generate_series(first, last) AS g
$$;
SELECT fill_masked(1, 5000);
CREATE INDEX masked_v ON masked USING hnsw (v vector_l2_ops);
CREATE INDEX masked_number ON masked (number);
CREATE INDEX masked_word ON masked (word);
CREATE INDEX masked_tags ON masked USING gin (tags);
CREATE INDEX masked_document ON masked USING gin (document);
CREATE INDEX masked_place ON masked USING brin (place) WITH (pages_per_range = 4);
-- Rows one by one, without a vector, with the vector of another row, changed, and removed.
SELECT fill_masked(5001, 6000);
UPDATE masked SET v = NULL WHERE id % 97 = 0;
UPDATE masked SET v = (SELECT v FROM masked WHERE id = 1) WHERE id % 50 = 1;
UPDATE masked SET number = number + 1 WHERE id % 31 = 0;
UPDATE masked SET other = 7 WHERE id % 29 = 0;
DELETE FROM masked WHERE id % 23 = 0;
VACUUM ANALYZE masked;
SELECT hnsw_check('masked_v');

-- Of a clause: whether there is a mask; rows that are missing, or too many, in a scan to the end; how many there are; whether
-- the nearest ten are in order, and nine of them the nearest.
CREATE FUNCTION compare_masked(
    clause text, OUT masked boolean, OUT missing bigint, OUT extra bigint, OUT matching bigint, OUT nearest boolean
) LANGUAGE plpgsql AS $$
DECLARE
    query text := format('SELECT id, v <-> (SELECT v FROM masked WHERE id = 17) AS distance FROM masked WHERE %s
                          ORDER BY v <-> (SELECT v FROM masked WHERE id = 17)', clause);
    line text;
    found float8[];
    exact float8[];
    by_index integer[];
    by_table integer[];
BEGIN
    SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_indexscan = on;
    masked := false;
    FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
        masked := masked OR line LIKE '%Bitmap Index Scan%';
    END LOOP;
    SET LOCAL hnsw.iterative_scan = relaxed_order;
    EXECUTE format('SELECT array_agg(id) FROM (%s) AS s', query) INTO by_index;
    SET LOCAL hnsw.iterative_scan = strict_order;
    EXECUTE format('SELECT array_agg(distance) FROM (%s LIMIT 10) AS s', query) INTO found;
    SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on; SET LOCAL enable_indexscan = off;
    EXECUTE format('SELECT array_agg(id) FROM masked WHERE (%s) AND v IS NOT NULL', clause) INTO by_table;
    EXECUTE format('SELECT array_agg(distance) FROM (%s LIMIT 10) AS s WHERE distance IS NOT NULL', query) INTO exact;
    SELECT count(*) INTO missing FROM (SELECT unnest(by_table) EXCEPT ALL SELECT unnest(by_index)) AS s;
    SELECT count(*) INTO extra FROM (SELECT unnest(by_index) EXCEPT ALL SELECT unnest(by_table)) AS s;
    matching := coalesce(cardinality(by_table), 0);
    nearest := found IS NOT DISTINCT FROM (SELECT array_agg(d ORDER BY d) FROM unnest(found) AS d)
        AND coalesce(cardinality(found), 0) = coalesce(cardinality(exact), 0)
        AND (SELECT count(*) FROM unnest(found) AS d WHERE d <= (SELECT max(e) FROM unnest(exact) AS e))
            >= least(coalesce(cardinality(exact), 0), 9);
END
$$;
SELECT clause, (compare_masked(clause)).* FROM unnest(ARRAY[
    'number = 5', 'number < 10', 'number < 100', 'number < 400', 'number < 900', 'number = -1', 'number IN (1, 50, 700)',
    'number BETWEEN 30 AND 60 AND word = ''word40''', 'number < 500 AND word <> ''word40''', 'word = ''word7'' OR number = 9',
    '(word = ''word7'' OR tags @> ''{3}'') AND number < 800', 'tags && ''{3,4,105}''', 'tags @> ''{3,103}''',
    'document @> ''{"k1": 6}''', 'document ? ''k2'' AND number > 500', 'place < 700', 'place BETWEEN 2000 AND 2100 AND other = 1',
    'other = 2 AND number < 300', 'word LIKE ''word1%'' AND number < 300', 'number = (SELECT 5)', 'number IS NULL', 'id < 100'
]) AS clause;
-- A bitmap that knows blocks only.
SET work_mem = '64kB';
SELECT clause, (compare_masked(clause)).* FROM unnest(ARRAY['number < 400', 'tags && ''{3,4,105}''']) AS clause;
RESET work_mem;

SET enable_seqscan = off;
SET enable_sort = off;
EXPLAIN (COSTS OFF)
    SELECT id FROM masked WHERE number < 10 AND other = 1 ORDER BY v <-> (SELECT v FROM masked WHERE id = 1003) LIMIT 3;
-- What EXPLAIN tells of a search.
CREATE FUNCTION told(query text, OUT line text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, VERBOSE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
        IF line ~ '(Search|Mask Rows|Candidates|Distances|Visited|Nodes Filtered|Fetches):|Custom Scan' THEN
            line := regexp_replace(line, '(Mask Rows|Candidates|Distances|Visited|Filtered|Fetches): [1-9]\d*', '\1: n');
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
SELECT told('SELECT id FROM masked WHERE number = 10 ORDER BY v <-> (SELECT v FROM masked WHERE id = 1003) LIMIT 3');
SELECT told('SELECT id FROM masked WHERE number < 40 ORDER BY v <-> (SELECT v FROM masked WHERE id = 1003) LIMIT 3');
SELECT told('SELECT id FROM masked WHERE number < 100 ORDER BY v <-> (SELECT v FROM masked WHERE id = 1003) LIMIT 3');
SELECT told('SELECT id FROM masked WHERE other < 100 ORDER BY v <-> (SELECT v FROM masked WHERE id = 1003) LIMIT 3');
CREATE FUNCTION told_json(query text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    document json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, FORMAT json) ' || query INTO document;
    RETURN document;
END
$$;
SELECT json_typeof(node -> 'Mask Rows') AS mask, json_typeof(node -> 'Search') AS search
  FROM (SELECT told_json('SELECT id FROM masked WHERE number < 10 ORDER BY v <-> (SELECT v FROM masked WHERE id = 1003) LIMIT 3')
               -> 0 -> 'Plan' -> 'Plans' -> 1 AS node) AS s;

-- Clauses that no row, or every row, passes.
EXPLAIN (COSTS OFF) SELECT id FROM masked WHERE number = 8 AND number = 12 ORDER BY v <-> (SELECT v FROM masked WHERE id = 17) LIMIT 3;
SELECT id FROM masked WHERE number = 8 AND number = 12 ORDER BY v <-> (SELECT v FROM masked WHERE id = 17) LIMIT 3;
SELECT count(*), max(number) < 8 AS passed FROM (
    SELECT number FROM masked WHERE number < 8 AND (SELECT current_user IS NOT NULL) ORDER BY v <-> (SELECT v FROM masked WHERE id = 17)
) AS s;

-- Parameters, of the search and of the mask.
SET plan_cache_mode = force_generic_plan;
PREPARE masked_search(vector, integer, integer) AS
    SELECT id, number FROM masked WHERE number BETWEEN $2 AND $3 ORDER BY v <-> $1 LIMIT 3;
SELECT v AS first FROM masked WHERE id = 1003 \gset
SELECT v AS second FROM masked WHERE id = 2005 \gset
EXPLAIN (COSTS OFF) EXECUTE masked_search(NULL, 1, 20);
EXECUTE masked_search(:'first', 0, 20);
EXECUTE masked_search(:'second', 0, 5);
EXECUTE masked_search(:'second', 0, 800);
EXECUTE masked_search(:'second', 0, -6);
-- Nothing is nearer to NULL than anything else.
SELECT count(*) FROM (SELECT FROM masked WHERE number BETWEEN 7 AND 8 ORDER BY v <-> (SELECT NULL::vector)) AS s;
SELECT count(*) FROM masked WHERE number BETWEEN 7 AND 8 AND v IS NOT NULL;
RESET plan_cache_mode;
-- Again and again, with other vectors and the same mask, and with other masks.
EXPLAIN (COSTS OFF) SELECT q.id, r.id FROM (VALUES (1003), (2005)) AS q(id),
    LATERAL (SELECT id FROM masked WHERE number < 20 ORDER BY v <-> (SELECT v FROM masked AS m WHERE m.id = q.id) LIMIT 2) AS r;
SELECT q.id, r.id FROM (VALUES (1003), (2005), (1003)) AS q(id),
    LATERAL (SELECT id FROM masked WHERE number < 20 ORDER BY v <-> (SELECT v FROM masked AS m WHERE m.id = q.id) LIMIT 2) AS r;
SELECT q.number, r.number, r.id FROM (VALUES (3), (5), (3)) AS q(number),
    LATERAL (SELECT id, number FROM masked WHERE number = q.number ORDER BY v <-> (SELECT v FROM masked WHERE id = 1003) LIMIT 2) AS r;
-- Cursors: in steps, and updating the row that was fetched last.
BEGIN;
DECLARE steps CURSOR FOR
    SELECT id FROM masked WHERE number < 20 ORDER BY v <-> (SELECT v FROM masked WHERE id = 1003);
FETCH 2 FROM steps;
FETCH 1 FROM steps;
UPDATE masked SET word = 'fetched' WHERE CURRENT OF steps RETURNING id, word;
FETCH 1 FROM steps;
ROLLBACK;
SELECT count(*) FROM (
    SELECT id FROM masked WHERE number < 20 ORDER BY v <-> (SELECT v FROM masked WHERE id = 1003) LIMIT 5 FOR UPDATE
) AS s;

-- An index of a part of the table gives no rows of the rest.
CREATE INDEX masked_part ON masked USING hnsw ((v::halfvec(64)) halfvec_l2_ops) WHERE other = 1;
SELECT count(*), bool_and(other = 1) AS part FROM (
    SELECT other FROM masked WHERE other = 1 AND number = 10 ORDER BY v::halfvec(64) <-> array_fill(0.5, ARRAY[64])::halfvec
) AS s;
SELECT count(*), bool_and(other = 1) AS part FROM masked WHERE other = 1 AND number = 10 AND v IS NOT NULL;
DROP INDEX masked_part;

-- Zero vectors are not in an index of the cosine, whichever way it is searched.
INSERT INTO masked (id, v, number) VALUES (9001, array_fill(0, ARRAY[64])::vector, 10);
CREATE INDEX masked_cosine ON masked USING hnsw (v vector_cosine_ops);
SELECT count(*) FILTER (WHERE id = 9001) FROM (
    SELECT id FROM masked WHERE number = 10 ORDER BY v <=> array_fill(0.5, ARRAY[64])::vector
) AS s;
DROP INDEX masked_cosine;
DELETE FROM masked WHERE id = 9001;

-- Partitions, each with its mask.
CREATE TABLE masked_parted (tenant integer, number integer, v vector(2)) PARTITION BY LIST (tenant);
CREATE TABLE masked_parted_1 PARTITION OF masked_parted FOR VALUES IN (1);
CREATE TABLE masked_parted_2 PARTITION OF masked_parted FOR VALUES IN (2);
CREATE INDEX ON masked_parted USING hnsw (v vector_l2_ops);
CREATE INDEX ON masked_parted (number);
INSERT INTO masked_parted SELECT n % 2 + 1, n % 10, ARRAY[n, n] FROM generate_series(1, 400) AS n;
ANALYZE masked_parted;
EXPLAIN (COSTS OFF) SELECT * FROM masked_parted WHERE number IN (3, 4) ORDER BY v <-> '[51,51]' LIMIT 4;
SELECT * FROM masked_parted WHERE number IN (3, 4) ORDER BY v <-> '[51.1,51.1]' LIMIT 4;

-- Row-level security: the policy's clause makes the mask, and a function that is not leakproof sees no other's rows.
CREATE TABLE masked_secret (id integer, tenant text, number integer, v vector(2));
INSERT INTO masked_secret SELECT n, CASE WHEN n % 4 = 0 THEN 'masked_reader' ELSE 'others' END, n % 10, ARRAY[n, n] FROM generate_series(1, 400) AS n;
CREATE INDEX ON masked_secret USING hnsw (v vector_l2_ops);
CREATE INDEX ON masked_secret (tenant);
CREATE INDEX ON masked_secret (number);
ALTER TABLE masked_secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON masked_secret USING (tenant = current_user);
ANALYZE masked_secret;
CREATE ROLE masked_reader;
GRANT SELECT ON masked_secret TO masked_reader;
CREATE FUNCTION tell_masked(id integer) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
    IF id % 4 <> 0 THEN RAISE WARNING 'row % seen', id; END IF;
    RETURN true;
END
$$;
SET ROLE masked_reader;
EXPLAIN (COSTS OFF) SELECT id FROM masked_secret WHERE number < 5 AND tell_masked(id) ORDER BY v <-> '[50,50]' LIMIT 3;
SELECT id FROM masked_secret WHERE number < 5 AND tell_masked(id) ORDER BY v <-> '[50.1,50.1]' LIMIT 3;
RESET ROLE;
RESET enable_seqscan;
RESET enable_sort;
DROP TABLE masked_secret;
DROP ROLE masked_reader;
