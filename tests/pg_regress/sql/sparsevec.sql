-- The type sparsevec: text, type modifier, storage, functions, distances, order, errors.

-- Text: elements in any order, spaces anywhere between tokens, zeros are left out
SELECT t, t::sparsevec FROM unnest(ARRAY[
    '{1:1,3:2.5}/5', ' { 1 : 1 , 3 : -2.5 } / 5 ', E'\t{1\n:\r1\x0b,\f2:2}/\t2\n', '{3:1,1:2,2:3}/3', '{}/7', '{ }/7', '{1:0,2:-0,3:1}/3',
    '{1:0,1:2}/1', '{1:2,1:0}/1', '{9:0}/1', '{0:0,-5:0}/1', '{+1:+1,002:.5}/+0003', '{1:0x10,2:0x1p-3}/2', '{1:1e-45,2:3.4028235e38}/2',
    '{1:0.1,2:1e10,3:1.17549435e-38}/3', '{1000000000:1}/1000000000', '{1000000000:0.5,1:1}/1000000000'])
    WITH ORDINALITY u (t, n) ORDER BY n;

-- Text: errors
SELECT t, code, message, detail FROM unnest(ARRAY[
    '', ' ', '1:1/3', '[1,2,3]', 'NULL', '{', '{1', '{1:', '{1:1', '{1:1,', '{1:1}', '{1:1} ', '{1:1}/', '{1:1}/ ', '{1:1}/x', '{1:1}5',
    '{,}/3', '{1:1,}/3', '{,1:1}/3', '{1:1,,2:2}/3', '{1:1 2:2}/3', '{1}/3', '{1,2}/3', '{:1}/3', '{1:}/3', '{1: }/3', '{1:one}/3',
    '{one:1}/3', '{1.5:1}/3', '{1e0:1}/3', '{0x1:1}/3', '{1::1}/3', '{1:1:1}/3', '{1:1x}/3', '{1:1}}/3', '{1:1}/3x', '{1:1}/3.5',
    '{1:1}/3 4', '{1:1}//3', '{{1:1}}/3', '{1:1}/0x3', '/3', '{}', '{}/'])
    WITH ORDINALITY u (t, n), outcome(format('SELECT %L::sparsevec', t)) ORDER BY n;
SELECT t, code, message, detail FROM unnest(ARRAY[
    '{}/0', '{}/-1', '{1:1}/0', '{}/1000000001', '{}/99999999999999999999', '{}/-99999999999999999999', '{0:1}/3', '{-1:1}/3', '{4:1}/3',
    '{3:1,4:1}/3', '{99999999999999999999:1}/3', '{-99999999999999999999:1}/3', '{2147483647:1}/3', '{-2147483648:1}/3', '{1:1,1:2}/3',
    '{2:1,1:1,2:1}/3', '{1:NaN}/3', '{1:-nan}/3', '{1:Infinity}/3', '{1:-inf}/3', '{9:nan}/3', '{1:4e38}/3', '{1:-1e400}/3', '{1:1e-46}/3',
    '{1:-1e-400}/3', '{9:1e-46}/3'])
    WITH ORDINALITY u (t, n), outcome(format('SELECT %L::sparsevec', t)) ORDER BY n;

-- Limits: commas are counted before anything else is read
SELECT l2_norm(('{' || string_agg(n || ':1', ',') || '}/16000')::sparsevec) FROM generate_series(1, 16000) n;
SELECT code, message FROM outcome($$SELECT ('{' || string_agg(n || ':1', ',') || '}/16001')::sparsevec FROM generate_series(1, 16001) n$$);
SELECT code, message FROM outcome($$SELECT ('{' || string_agg(n || ':0', ',') || '}/16001')::sparsevec FROM generate_series(1, 16001) n$$);
SELECT code, message FROM outcome($$SELECT repeat(',', 16000)::sparsevec$$);
SELECT code, left(message, 50) AS message, detail FROM outcome($$SELECT repeat(',', 15999)::sparsevec$$);

-- Type modifier
SELECT '{1:1}/3'::sparsevec(3), '{}/1000000000'::sparsevec(1000000000), format_type('sparsevec'::regtype, 384);
SELECT s, code, message FROM unnest(ARRAY[
    $$'{1:1}/3'::sparsevec(2)$$, $$'{1:1}/3'::sparsevec::sparsevec(4)$$, $$'{9:1}/3'::sparsevec(2)$$, $$'{}/0'::sparsevec(2)$$,
    $$'{}/1'::sparsevec(0)$$, $$'{}/1'::sparsevec(-1)$$, $$'{}/1'::sparsevec(1000000001)$$, $$'{}/1'::sparsevec(1, 2)$$,
    $$'{}/1'::sparsevec('one')$$, $$'{}/1'::sparsevec('1')$$, $$'{}/1'::sparsevec(99999999999)$$, $$sparsevec_typmod_in('{}')$$,
    $$sparsevec_typmod_in('{{1}}')$$, $$sparsevec_typmod_in('{NULL}')$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- A table: short and long headers, out-of-line values, NULL, and the modifier of the column
CREATE TABLE sparse (id integer PRIMARY KEY, s sparsevec);
INSERT INTO sparse
SELECT d, ('{' || string_agg(n * 3 || ':' || n, ',' ORDER BY n) || '}/60000')::sparsevec
  FROM unnest(ARRAY[1, 2, 13, 14, 15, 300, 1000, 16000]) d, generate_series(1, d) n GROUP BY d;
INSERT INTO sparse VALUES (0, '{}/60000'), (-1, NULL);
SELECT id, l2_norm(s) = (SELECT sqrt(sum(n::float8 * n)) FROM generate_series(1, id) n) AS norm, s <+> s AS zero, pg_column_size(s) AS bytes
  FROM sparse ORDER BY id;
CREATE TABLE fixed_sparse (id integer PRIMARY KEY, s sparsevec(3) DEFAULT '{}/3');
INSERT INTO fixed_sparse VALUES (1, '{1:1,3:2}/3'), (2, ARRAY[4, 0, 6]), (3, NULL);
INSERT INTO fixed_sparse (id) VALUES (4);
INSERT INTO fixed_sparse VALUES (5, '{}/2');
INSERT INTO fixed_sparse VALUES (5, ARRAY[1, 2]);
UPDATE fixed_sparse SET s = '{1:1}/4' WHERE id = 1;
ALTER TABLE fixed_sparse ALTER s TYPE sparsevec(2);
ALTER TABLE fixed_sparse ALTER s TYPE vector(3);
ALTER TABLE fixed_sparse ALTER s TYPE sparsevec(3);
TABLE fixed_sparse;

-- Binary: the number of dimensions, of elements, 0, indices from 0, values
SELECT sparsevec_send('{1:1,5:-2}/5'), sparsevec_send('{}/1000000000');
SELECT ARRAY['{1:1}/2'::sparsevec, '{}/3'], array_agg(s ORDER BY id) FROM fixed_sparse WHERE id < 4;

-- Norm and normalization
SELECT l2_norm('{1:3,9:4}/9'::sparsevec), l2_norm('{}/9'::sparsevec), l2_norm('{1:3e38,2:4e37}/2'::sparsevec) > 3e38 AS no_overflow;
SELECT l2_normalize('{1:3,9:4}/9'::sparsevec), l2_normalize('{}/9'::sparsevec), l2_normalize('{2:-0.1}/2'::sparsevec),
       l2_normalize('{1:3e38,2:1e-45}/2'::sparsevec) AS zeros_are_left_out, l2_normalize('{1:1e-45}/2'::sparsevec) AS subnormal;
SELECT code, message FROM outcome($$SELECT vector_dims('{1:1}/3'::sparsevec)$$);
SELECT code, message FROM outcome($$SELECT vector_norm('{1:1}/3'::sparsevec)$$);
SELECT code, message FROM outcome($$SELECT '{1:1}/3'::sparsevec + '{1:1}/3'::sparsevec$$);

-- Distances: no element in common, some, all; the ends of each
SELECT a, b, a <-> b AS l2, a <#> b AS ip, round((a <=> b)::numeric, 6) AS cosine, a <+> b AS l1,
       sparsevec_l2_squared_distance(a, b) AS l2_squared, inner_product(a, b),
       l2_distance(a, b) = b <-> a AND a <#> b = b <#> a AND a <=> b = b <=> a AND a <+> b = b <+> a AS commutes
  FROM (VALUES ('{1:3}/4'::sparsevec, '{4:4}/4'::sparsevec), ('{1:1,2:2}/4', '{1:3,2:4}/4'), ('{1:1,3:2}/4', '{2:3,4:5}/4'),
               ('{1:1,2:2,3:3}/4', '{2:4}/4'), ('{2:1,4:2}/4', '{1:1,2:1,3:1,4:1}/4'), ('{1:5}/4', '{1:-5}/4'), ('{4:2}/4', '{4:4}/4'),
               ('{1:7}/1000000000', '{1000000000:24}/1000000000')) v (a, b);
SELECT '{}/4'::sparsevec <-> '{1:3,4:4}/4' AS l2, '{}/4'::sparsevec <#> '{1:3}/4' AS ip, '{}/4'::sparsevec <=> '{1:3}/4' AS cosine,
       '{}/4'::sparsevec <+> '{1:3,4:4}/4' AS l1, '{}/4'::sparsevec <-> '{}/4' AS l2_empty, '{}/4'::sparsevec <=> '{}/4' AS cosine_empty;
SELECT '{1:3e38}/2'::sparsevec <-> '{1:-3e38}/2' AS l2, '{1:3e38}/2'::sparsevec <#> '{1:3e38}/2' AS ip,
       '{1:3e38}/2'::sparsevec <+> '{1:-3e38}/2' AS l1, '{1:3e38}/2'::sparsevec <=> '{1:3e38}/2' AS cosine,
       '{1:1e-30}/2'::sparsevec <-> '{}/2' AS l2_small;
-- As the dense vectors have them
SELECT count(*), bool_and(a::vector <-> b::vector = a <-> b) AS l2, bool_and(a::vector <#> b::vector = a <#> b) AS ip,
       bool_and(a::vector <+> b::vector = a <+> b) AS l1, bool_and(abs((a::vector <=> b::vector) - (a <=> b)) < 1e-6) AS cosine
  FROM (SELECT (SELECT array_agg(CASE hash % 3 WHEN 0 THEN hash % 100 - 50 ELSE 0 END ORDER BY n)
                  FROM generate_series(1, 40) n, LATERAL (SELECT ('x' || md5(i || ' ' || n))::bit(28)::integer AS hash) h)::sparsevec AS a,
               (SELECT array_agg(CASE hash % 4 WHEN 0 THEN hash % 100 - 50 ELSE 0 END ORDER BY n)
                  FROM generate_series(1, 40) n, LATERAL (SELECT ('x' || md5(n || ' ' || i))::bit(28)::integer AS hash) h)::sparsevec AS b
          FROM generate_series(1, 200) i) s;
SELECT s, code, message FROM unnest(ARRAY[
    $$'{}/2'::sparsevec <-> '{}/1'$$, $$'{}/2'::sparsevec <#> '{}/1'$$, $$'{}/2'::sparsevec <=> '{}/1'$$, $$'{}/1'::sparsevec <+> '{}/1000000000'$$,
    $$sparsevec_l2_squared_distance('{}/2', '{}/1')$$, $$sparsevec_negative_inner_product('{}/2', '{}/1')$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- Order: that of the dense vectors; what one has no dimension for is not looked at.
SELECT a, b, sparsevec_cmp(a::sparsevec, b::sparsevec), sparsevec_cmp(b::sparsevec, a::sparsevec) AS reversed
  FROM (VALUES ('{}/1', '{}/1'), ('{}/1', '{}/2'), ('{1:1}/2', '{1:1}/3'), ('{1:1}/2', '{2:1}/2'), ('{1:-1}/2', '{2:1}/2'), ('{1:-1}/2', '{2:-1}/2'),
               ('{1:1}/3', '{1:1,2:1}/3'), ('{1:1}/3', '{1:1,2:-1}/3'), ('{1:1}/1', '{1:1,2:-1}/2'), ('{}/1', '{2:-1}/2'), ('{}/2', '{2:-1}/2'),
               ('{1:2}/1', '{1:1,2:9}/2'), ('{3:1}/3', '{}/2'), ('{3:-1}/3', '{}/2')) v (a, b);
SELECT '{1:1}/2'::sparsevec < '{1:2}/2' AS lt, '{1:1}/2'::sparsevec <= '{1:1}/2' AS le, '{1:1}/2'::sparsevec = '{1:1}/2' AS eq,
       '{1:1}/2'::sparsevec <> '{1:1}/2' AS ne, '{1:1}/2'::sparsevec >= '{1:1}/3' AS ge, '{1:2}/1'::sparsevec > '{1:1,2:5}/2' AS gt;
-- Every pair of small vectors of 2 and 3 dimensions
SELECT count(*) AS pairs, count(*) FILTER (WHERE sparsevec_cmp(a.s, b.s) <> vector_cmp(a.s::vector, b.s::vector)) AS differ
  FROM (SELECT ARRAY[x, y]::sparsevec AS s FROM generate_series(-1, 1) x, generate_series(-1, 1) y
        UNION ALL SELECT ARRAY[x, y, z]::sparsevec FROM generate_series(-1, 1) x, generate_series(-1, 1) y, generate_series(-1, 1) z) a,
       (SELECT ARRAY[x, y]::sparsevec AS s FROM generate_series(-1, 1) x, generate_series(-1, 1) y
        UNION ALL SELECT ARRAY[x, y, z]::sparsevec FROM generate_series(-1, 1) x, generate_series(-1, 1) y, generate_series(-1, 1) z) b;

DROP TABLE sparse, fixed_sparse;
