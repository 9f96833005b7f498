-- What the vector types can do beyond pgvector.

-- JSON arrays
SELECT '[1, 2.5, -3e-2]'::jsonb::vector, '[1, 2.5, -3e-2]'::jsonb::halfvec(3);
CREATE TEMP TABLE from_json (v vector(2));
INSERT INTO from_json SELECT value FROM jsonb_array_elements('[[1,2],[3,4]]');
SELECT * FROM from_json;
SELECT s, code, message FROM unnest(ARRAY[
    $$'{"a": 1}'::jsonb::vector$$,
    $$'"[1]"'::jsonb::vector$$,
    $$'1'::jsonb::vector$$,
    $$'null'::jsonb::vector$$,
    $$'true'::jsonb::vector$$,
    $$'[1, null]'::jsonb::vector$$,
    $$'[1, "2"]'::jsonb::vector$$,
    $$'[[1]]'::jsonb::vector$$,
    $$'[]'::jsonb::vector$$,
    $$'[1e39]'::jsonb::vector$$,
    $$'[65520]'::jsonb::halfvec$$,
    $$'[1, 2]'::jsonb::vector(3)$$,
    $$NULL::jsonb::vector$$
]) WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- Late interaction
SELECT max_sim(ARRAY['[1,0]', '[0,1]']::vector[], ARRAY['[2,0]', '[1,1]', '[0,-3]']::vector[]),
       max_sim(ARRAY['[1,0]', '[0,1]']::halfvec[], ARRAY['[2,0]', '[1,1]', '[0,-3]']::halfvec[]),
       max_sim(ARRAY['[1,0]']::vector[], '{}'), max_sim('{}'::vector[], ARRAY['[1,0]']::vector[]), max_sim(NULL, ARRAY['[1]']::vector[]);
SELECT s, code, message FROM unnest(ARRAY[
    $$max_sim(ARRAY['[1,2]', NULL]::vector[], ARRAY['[1,2]']::vector[])$$,
    $$max_sim(ARRAY['[1,2]']::vector[], ARRAY['[1,2]', '[1,2,3]']::vector[])$$,
    $$max_sim(ARRAY['[1,2]', '[1]']::halfvec[], ARRAY['[1,2]']::halfvec[])$$
]) WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- Moving windows give what adding up anew gives, whatever leaves the window
CREATE TEMP TABLE moving AS
    SELECT n, CASE WHEN n % 7 = 0 THEN NULL WHEN n % 11 = 0 THEN ARRAY[1e20, -1e15, n] ELSE ARRAY[n / 3.0, -n * 1e-7, 1.0 / n] END::vector AS v
      FROM generate_series(1, 200) n;
SELECT count(*), bool_and(moved IS NOT DISTINCT FROM anew) AS same_avg, bool_and(moved_sum IS NOT DISTINCT FROM anew_sum) AS same_sum,
       bool_and(moved_half IS NOT DISTINCT FROM anew_half) AS same_half
  FROM (SELECT avg(v) OVER w AS moved, (SELECT avg(i.v) FROM moving i WHERE i.n BETWEEN o.n - 4 AND o.n) AS anew,
               -- The sum of a window is rounded once; one row at a time is, too.
               sum(v) OVER one AS moved_sum, o.v AS anew_sum,
               avg(l2_normalize(v)::halfvec) OVER w AS moved_half,
               (SELECT avg(l2_normalize(i.v)::halfvec) FROM moving i WHERE i.n BETWEEN o.n - 4 AND o.n) AS anew_half
          FROM moving o
        WINDOW w AS (ORDER BY n ROWS 4 PRECEDING), one AS (ORDER BY n ROWS CURRENT ROW)) s;
SELECT n, sum(v) OVER w, avg(v) OVER w
  FROM (VALUES (1, '[1,2]'::vector), (2, '[3,4]'), (3, NULL), (4, '[-3,1e-45]')) t (n, v)
WINDOW w AS (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE NO OTHERS);
SELECT avg(v) OVER w, sum(v) OVER w FROM (VALUES (NULL::vector), (NULL)) t (v) WINDOW w AS (ROWS 1 PRECEDING);
SELECT s, code, message FROM unnest(ARRAY[
    $$sum(v) OVER (ROWS 1 PRECEDING) FROM (VALUES ('[3e38]'::vector), ('[3e38]')) t (v)$$,
    $$avg(v) OVER (ROWS 1 PRECEDING) FROM (VALUES ('[3e38]'::vector), ('[3e38]')) t (v)$$,
    $$sum(v) OVER (ROWS 1 PRECEDING) FROM (VALUES ('[1]'::vector), ('[1,2]')) t (v)$$,
    $$sum(v) OVER (ROWS 1 PRECEDING) FROM (VALUES ('[60000]'::halfvec), ('[60000]')) t (v)$$,
    $$vector_window_add('{1}', '[1]')$$,
    $$vector_window_add('{}', '[1]')$$,
    $$vector_window_remove('{1,0,1}', '[1]')$$
]) WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- The average of no rows is null in a parallel plan, too
CREATE TABLE many AS SELECT n, ARRAY[n]::vector AS v FROM generate_series(1, 100000) n;
ANALYZE many;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT avg(v), sum(v) FROM many WHERE n % 7 > 10;
SELECT avg(v), sum(v) FROM many WHERE n % 7 > 10;
SELECT avg(v), sum(v) FROM many WHERE n % 5000 = 0;
-- Workers order what they find, and the leader merges
EXPLAIN (COSTS OFF) SELECT n FROM many ORDER BY v <-> '[70000.4]' LIMIT 5;
SELECT n, v <-> '[70000.4]' AS distance FROM many ORDER BY v <-> '[70000.4]' LIMIT 5;
SELECT count(*), min(n), max(n) FROM many WHERE v::halfvec(1) <-> '[100]' < 50.5 AND n < 65000;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
DROP TABLE many;
