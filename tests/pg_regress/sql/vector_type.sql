-- The type vector: text, type modifier, casts, storage, distances, order, errors.
\set VERBOSITY default

-- Text: values that print as they are read, and the shortest digits that do
SELECT '[1,2,3]'::vector;
SELECT ' [ 1 , -2.5 , 3e-2 ] '::vector;
SELECT '[0.1,-0,1e10,1.17549435e-38]'::vector;
SELECT '[1.10,3.40282347e38]'::vector;

-- Text: errors
SELECT ''::vector;
SELECT '1,2'::vector;
SELECT '[1,2'::vector;
SELECT '[1,2]x'::vector;
SELECT '[]'::vector;
SELECT '[1,,2]'::vector;
SELECT '[1,two]'::vector;
SELECT '[NaN]'::vector;
SELECT '[1,Infinity]'::vector;
SELECT '[1,-Infinity]'::vector;
SELECT '[4e38]'::vector;

-- Limits
SELECT vector_dims(array_agg(n)::real[]::vector) FROM generate_series(1, 16000) n;
SELECT vector_dims(array_agg(n)::real[]::vector) FROM generate_series(1, 16001) n;

-- Type modifier
SELECT '[1,2,3]'::vector(3);
SELECT '[1,2,3]'::vector(2);
SELECT '[1,2,3]'::vector::vector(2);
SELECT '[1]'::vector(0);
SELECT '[1]'::vector(16001);
SELECT '[1]'::vector(1, 2);
SELECT '[1]'::vector('one');
SELECT format_type('vector'::regtype, 384);

-- Casts
SELECT ARRAY[1, 2, 3]::vector, ARRAY[1.5, 2]::real[]::vector, ARRAY[1.5, 2]::double precision[]::vector,
       ARRAY[1.5, 2]::numeric[]::vector;
SELECT '[1,2.5]'::vector::real[], '{1,2.5}'::real[]::vector(2);
SELECT array_length('[1,2,3]'::vector, 1);
SELECT '{1,2}'::real[]::vector(3);
SELECT '{}'::real[]::vector;
SELECT '{{1,2},{3,4}}'::real[]::vector;
SELECT '{1,NULL}'::integer[]::vector;
SELECT '{1,NaN}'::real[]::vector;
SELECT '{1e39}'::double precision[]::vector;
\set VERBOSITY terse
SELECT '{1e39}'::numeric[]::vector;
\set VERBOSITY default

-- A table: short (1-byte header), plain and out-of-line values, NULL, and the modifier of the column
CREATE TABLE vectors (id integer PRIMARY KEY, v vector);
INSERT INTO vectors
SELECT d, array_agg(n ORDER BY n)::real[] FROM unnest(ARRAY[1, 29, 30, 31, 384, 600, 16000]) d, generate_series(1, d) n
 GROUP BY d;
INSERT INTO vectors VALUES (0, NULL);
SELECT id, vector_dims(v), (v::real[])[1] AS first, (v::real[])[id] AS last, v <+> v AS zero,
       pg_column_size(v) AS bytes
  FROM vectors ORDER BY id;
CREATE TABLE compressed (v vector);
ALTER TABLE compressed ALTER v SET STORAGE main;
INSERT INTO compressed SELECT array_fill(2::real, ARRAY[10000]);
SELECT vector_dims(v), vector_norm(v), pg_column_size(v) < 4000 AS is_small FROM compressed;
CREATE TABLE fixed (v vector(3) NOT NULL);
INSERT INTO fixed VALUES ('[1,2,3]'), (ARRAY[4, 5, 6]);
INSERT INTO fixed VALUES ('[1,2]');
INSERT INTO fixed VALUES (ARRAY[1, 2]);
ALTER TABLE fixed ALTER v TYPE vector(2);
TABLE fixed;

-- COPY, text and binary
CREATE TEMPORARY TABLE copied (v vector(3));
COPY copied FROM stdin;
[7,8,9]
\.
COPY copied FROM stdin;
[7,8]
\.
TABLE copied;
SELECT vector_send('[1,-2]');

-- Arrays of vectors
SELECT ARRAY['[1,2]'::vector, '[3]'];
SELECT array_agg(v ORDER BY v) FROM fixed;

-- Distances
SELECT '[0,0]'::vector <-> '[3,4]' AS l2, '[1,2]'::vector <#> '[3,4]' AS ip, '[1,0]'::vector <=> '[0,2]' AS cosine,
       '[1,2]'::vector <+> '[3,5]' AS l1;
SELECT l2_distance('[0,0]'::vector, '[3,4]'), inner_product('[1,2]'::vector, '[3,4]'), cosine_distance('[1,1]'::vector, '[-1,-1]'),
       l1_distance('[1,2]'::vector, '[3,5]');
SELECT '[0,0]'::vector <=> '[1,1]' AS undirected;
SELECT '[1,2]'::vector <-> '[3]';
SELECT '[1,2]'::vector <#> '[3]';
SELECT '[1,2]'::vector <=> '[3]';
SELECT '[1,2]'::vector <+> '[3]';
SELECT '[1,2]'::vector <-> NULL AS nothing;
SELECT vector_norm('[3,4]'), l2_normalize('[3,4]'::vector), l2_normalize('[0,0]'::vector);
SELECT v FROM fixed ORDER BY v <-> '[4,4,4]';

-- Order
SELECT '[1,2]'::vector < '[1,3]' AS lt, '[1,2]'::vector <= '[1,2]' AS le, '[1,2]'::vector = '[1,2]' AS eq,
       '[1,2]'::vector <> '[1,2]' AS ne, '[1,2]'::vector >= '[1,2,0]' AS ge, '[2]'::vector > '[1,5]' AS gt,
       '[0]'::vector = '[-0]' AS zeros;
SELECT DISTINCT v FROM (VALUES ('[1,2]'::vector), ('[1]'), ('[1,2]'), ('[0,9]'), (NULL)) t (v) ORDER BY v;
CREATE UNIQUE INDEX ON fixed (v);
INSERT INTO fixed VALUES ('[1,2,3]');
SELECT vector_cmp('[1]', '[1,0]'), vector_cmp('[1]', '[1]'), vector_cmp('[2]', '[1,0]');

-- Every function of the type is immutable, strict and safe to run in parallel, and has a comment
SELECT proname, count(*)
  FROM pg_proc
 WHERE prosrc LIKE ANY (ARRAY['vector\_%\_wrapper', 'array\_to\_vector\_wrapper'])
   AND provolatile = 'i' AND proisstrict AND proparallel = 's' AND obj_description(oid, 'pg_proc') IS NOT NULL
 GROUP BY proname ORDER BY proname COLLATE "C";

DROP TABLE vectors, compressed, fixed;
