-- avg and sum of vector and halfvec: NULLs, groups, overflow, partial states, parallel plans.
CREATE TABLE samples (id integer PRIMARY KEY, kind text, v vector, h halfvec);
INSERT INTO samples
SELECT i, CASE i % 3 WHEN 0 THEN 'fizz' ELSE 'plain' END, ARRAY[i, -i, i % 7, 0.5]::vector, ARRAY[i % 64, -i % 64, i % 7, 0.5]::halfvec
  FROM generate_series(1, 24) i;
INSERT INTO samples VALUES (100, 'plain', NULL, NULL), (101, 'nothing', NULL, NULL);

-- All, in groups, NULL among the values, nothing but NULL, nothing at all
SELECT avg(v), sum(v), avg(h), sum(h) FROM samples;
SELECT kind, count(v), avg(v), sum(v), avg(h), sum(h) FROM samples GROUP BY kind ORDER BY kind;
SELECT avg(v), sum(v), avg(h), sum(h) FROM samples WHERE id > 100;
SELECT avg(v), sum(v), avg(h), sum(h) FROM samples WHERE false;
SELECT avg(v), sum(v), avg(h), sum(h) FROM samples WHERE id = 1;
SELECT avg(DISTINCT v), sum(DISTINCT v), avg(v) FILTER (WHERE v <> '[1]'), sum(v) FILTER (WHERE v = '[2,2]')
  FROM (VALUES ('[1,2]'::vector), ('[3,4]'), ('[1,2]'), (NULL)) t (v);
SELECT pg_typeof(avg(v)), pg_typeof(sum(v)), pg_typeof(avg(h)), pg_typeof(sum(h)) FROM samples;
SELECT id, sum(v) OVER (ORDER BY id ROWS 2 PRECEDING), avg(h) OVER (ORDER BY id) FROM samples ORDER BY id LIMIT 4;
SELECT avg(v::vector(4)), sum(h::halfvec(4)) FROM samples;
-- Sparse vectors and arrays have neither, but by a cast
SELECT sum('{1:1,3:2}/3'::sparsevec::vector), avg(ARRAY[1, 2]::vector);
SELECT s, code, message FROM unnest(ARRAY[
    $$avg('{1:1}/3'::sparsevec)$$, $$sum('{1:1}/3'::sparsevec)$$, $$sum(ARRAY[1.5])$$, $$min('[1]'::vector)$$, $$max('[1]'::halfvec)$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- The mean is that of doubles, rounded once; the sum is one of singles, or of halves.
SELECT avg(v), sum(v) FROM (VALUES ('[1e10,16777216]'::vector), ('[1,1]'), ('[-1e10,1]')) t (v);
SELECT avg(h), sum(h) FROM (VALUES ('[2048,0.1]'::halfvec), ('[1,0.1]'), ('[1,0.1]')) t (h);
SELECT avg(v), avg(h) FROM (SELECT '[3e38]'::vector, '[65504]'::halfvec FROM generate_series(1, 100)) t (v, h);
SELECT avg(v) AS zeros, sum(v) AS sum, avg(h) AS half FROM (VALUES ('[-0]'::vector, '[-0]'::halfvec), ('[-0]', '[-0]')) t (v, h);

-- Dimensions that differ
SELECT s, code, message FROM unnest(ARRAY[
    $$avg(v) FROM (VALUES ('[1,2]'::vector), ('[1]')) t (v)$$, $$sum(v) FROM (VALUES ('[1,2]'::vector), ('[1]')) t (v)$$,
    $$avg(h) FROM (VALUES ('[1,2]'::halfvec), ('[1]')) t (h)$$, $$sum(h) FROM (VALUES ('[1,2]'::halfvec), ('[1]')) t (h)$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- Sums that are out of range
SELECT s, code, message FROM unnest(ARRAY[
    $$sum(v) FROM (VALUES ('[3e38]'::vector), ('[3e38]')) t (v)$$, $$sum(v) FROM (VALUES ('[-3e38]'::vector), ('[-3e38]')) t (v)$$,
    $$sum(h) FROM (VALUES ('[65504]'::halfvec), ('[16]')) t (h)$$, $$sum(h) FROM (VALUES ('[65504]'::halfvec), ('[15]')) t (h)$$,
    $$avg(v) FROM (VALUES ('[3e38]'::vector), ('[3e38]')) t (v)$$, $$avg(h) FROM (VALUES ('[65504]'::halfvec), ('[65504]')) t (h)$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- The transition state is an array: how many, and the sums. It comes as an argument, so it is checked.
SELECT vector_accum('{0}', '[1,2]'), vector_accum('{1,1,2}', '[3,4]'), halfvec_accum('{0}', '[1,2]'), halfvec_accum('{2,1,2}', '[3,4]');
SELECT vector_combine('{0}', '{2,3,4}'), vector_combine('{2,3,4}', '{0}'), vector_combine('{1,1,2}', '{2,3,4}'),
       halfvec_combine('{0,1}', '{2,3,4}'), halfvec_combine('{1,1,2}', '{2,3,4}');
SELECT vector_avg('{2,3,4}'), halfvec_avg('{2,3,4}'), vector_avg('{0,3,4}'), halfvec_avg('{0}'), vector_avg('{-1,3}');
SELECT s, code, message FROM unnest(ARRAY[
    $$vector_accum('{}', '[1]')$$, $$vector_accum('{{0}}', '[1]')$$, $$vector_accum('{NULL}', '[1]')$$, $$vector_accum('{1,NULL}', '[1]')$$,
    $$vector_accum('{1,1,2}', '[1]')$$, $$vector_accum('{1,1.7e308}', '[3e38]')$$, $$vector_accum('{1,Infinity}', '[1]')$$,
    $$vector_accum('{1,NaN}', '[1]')$$, $$halfvec_accum('{}', '[1]')$$, $$halfvec_accum('{{0}}', '[1]')$$, $$halfvec_accum('{1,1,2}', '[1]')$$,
    $$halfvec_accum('{1,Infinity}', '[1]')$$,
    $$vector_combine('{}', '{0}')$$, $$vector_combine('{0}', '{}')$$, $$vector_combine('{1}', '{0}')$$,
    $$vector_combine('{1}', '{1}')$$, $$vector_combine('{1,2}', '{1,2,3}')$$, $$vector_combine('{1,1e308}', '{1,1.7e308}')$$,
    $$halfvec_combine('{}', '{0}')$$, $$halfvec_combine('{1}', '{0}')$$, $$halfvec_combine('{1,2}', '{1,2,3}')$$,
    $$vector_combine(array_prepend(1, array_fill(0::float8, ARRAY[16001])), '{0}')$$,
    $$vector_avg('{}')$$, $$vector_avg('{{1,2}}')$$, $$vector_avg('{1}')$$, $$vector_avg('{1,NULL}')$$, $$vector_avg('{1,1e39}')$$, $$vector_avg('{1,NaN}')$$,
    $$vector_avg(array_prepend(1, array_fill(0::float8, ARRAY[16001])))$$,
    $$halfvec_avg('{}')$$, $$halfvec_avg('{1}')$$, $$halfvec_avg('{1,65520}')$$, $$halfvec_avg('{1,NaN}')$$, $$halfvec_avg('{1,Infinity}')$$,
    $$halfvec_avg('{1,1e39}')$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- A parallel plan gives what a serial one gives: whole numbers, whose sums are exact in any order.
CREATE TABLE many (id integer, part integer, v vector(8), h halfvec(4)) WITH (parallel_workers = 2);
INSERT INTO many
SELECT i, i % 4, ARRAY[i, -i, i % 100, i % 2, 1, 0, i % 5 - 2, 3]::vector,
       ARRAY[i % 3 - 1, (i % 5 = 0)::integer, -(i % 3 = 0)::integer, 0]::halfvec
  FROM generate_series(1, 5000) i;
UPDATE many SET v = NULL, h = NULL WHERE id % 1000 = 0;
ANALYZE many;
CREATE TABLE serial AS SELECT coalesce(part, -1) AS part, avg(v) AS avg_v, sum(v) AS sum_v, avg(h) AS avg_h, sum(h) AS sum_h
  FROM many GROUP BY ROLLUP (part);
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT avg(v), sum(v), avg(h), sum(h) FROM many;
EXPLAIN (COSTS OFF) SELECT part, avg(v), sum(v), avg(h), sum(h) FROM many GROUP BY part;
CREATE TABLE parallel AS SELECT -1 AS part, avg(v) AS avg_v, sum(v) AS sum_v, avg(h) AS avg_h, sum(h) AS sum_h FROM many;
INSERT INTO parallel SELECT part, avg(v), sum(v), avg(h), sum(h) FROM many GROUP BY part;
SELECT part, s.avg_v = p.avg_v AS avg_v, s.sum_v = p.sum_v AS sum_v, s.avg_h = p.avg_h AS avg_h, s.sum_h = p.sum_h AS sum_h
  FROM serial s JOIN parallel p USING (part) ORDER BY part;
SELECT avg_v, sum_v, avg_h, sum_h FROM parallel WHERE part = -1;
-- Workers that find nothing
EXPLAIN (COSTS OFF) SELECT sum(v) FROM many WHERE id % 7 > 10;
SELECT sum(v), sum(h) FROM many WHERE id % 7 > 10;
RESET ALL;

-- Partitions
SET enable_partitionwise_aggregate = on;
CREATE TABLE parts (k integer, v vector(2)) PARTITION BY LIST (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES IN (3);
INSERT INTO parts VALUES (1, '[1,2]'), (1, '[3,4]'), (2, '[5,6]'), (2, NULL);
SELECT avg(v), sum(v) FROM parts;
RESET enable_partitionwise_aggregate;
DROP TABLE samples, many, serial, parallel, parts;
