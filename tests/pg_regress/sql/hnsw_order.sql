-- Strict order, and rows found too late for it: a clause that only the executor checks, asked for more rows than pass.
-- All that pass come; those before the end of the search in order. 6,000 rows, as the graph is not walked for fewer than 4,000.
SET enable_seqscan = off;
SET max_parallel_maintenance_workers = 0;
SELECT setseed(0.5);
-- Groups far apart, between which a search with a narrow beam goes astray
CREATE TABLE item AS
SELECT id, ARRAY(SELECT random() + 20 * ((id * i * 7919) % 30 = 0)::integer FROM generate_series(1, 24) i)::vector(24) AS v
  FROM generate_series(1, 6000) id;
CREATE INDEX item_v ON item USING hnsw (v vector_l2_ops);
ANALYZE item;

-- How many of 55 rows come for LIMIT 100, and how many of them after a farther one
CREATE FUNCTION searches(ef integer, queries integer, OUT short bigint, OUT some_late boolean) LANGUAGE plpgsql AS $$
DECLARE
    query vector;
    number integer;
    rows_late bigint := 0;
    found_rows bigint;
    found_late bigint;
BEGIN
    short := 0;
    PERFORM set_config('hnsw.ef_search', ef::text, true);
    FOR number IN 1 .. queries LOOP
        SELECT v INTO query FROM item WHERE id = number * 19;
        SELECT count(*), count(*) FILTER (WHERE distance < farthest) INTO found_rows, found_late
          FROM (SELECT distance, max(distance) OVER (ORDER BY place) AS farthest
                  FROM (SELECT distance, row_number() OVER () AS place
                          FROM (SELECT v <-> query AS distance FROM item
                                 WHERE id % 109 = 7 ORDER BY v <-> query LIMIT 100) rows) numbered) checked;
        short := short + (found_rows < 55)::integer;
        rows_late := rows_late + found_late;
    END LOOP;
    some_late := rows_late > 0;
END $$;

SET hnsw.iterative_scan = strict_order;
SELECT * FROM searches(1, 25);
SELECT * FROM searches(40, 15);
SET hnsw.iterative_scan = relaxed_order;
SELECT short FROM searches(1, 25);
-- What was found before a limit is returned, too.
SET hnsw.iterative_scan = strict_order;
SET hnsw.max_scan_tuples = 1000;
SELECT short > 0 AS limited FROM searches(40, 10);
RESET hnsw.max_scan_tuples;

-- A scan to its end gets every row, whatever order its search has found them in.
SET hnsw.ef_search = 1;
SELECT count(*), count(DISTINCT id) FROM (SELECT id FROM item ORDER BY v <-> (SELECT v FROM item WHERE id = 77)) everything;
DROP FUNCTION searches;
DROP TABLE item;
