-- The type halfvec: text, rounding to 16 bits, type modifier, storage, distances, order, errors.

-- Text: what is read is rounded to the nearest half, a tie to the even one, and printed as the single it is equal to.
SELECT t, t::halfvec FROM unnest(ARRAY[
    '[1,2,3]', ' [ 1 , -2.5 , 3e-2 ] ', E'\t\n\r\x0b\f[1\t,\n2]\x0b\f', '[+1,.5,5.]', '[0x10,0x1p-3,0X.8]', '[0,-0]',
    '[0.1,0.2,0.3]', '[1e-2,1E3]', '[1.0009765625,1.00048828125,1.00146484375]', '[1.00048828126]',
    '[2047,2048,2049,2050,2051]', '[4097,4098,4099,4102]']) WITH ORDINALITY u (t, n) ORDER BY n;

-- The ends of the range: the largest number, the smallest normal and subnormal ones, and what becomes 0
SELECT t, t::halfvec FROM unnest(ARRAY[
    '[65504,-65504]', '[65519,-65519.99]', '[6.103515625e-05]', '[6.0975552e-05]', '[5.9604645e-08,-5.9604645e-08]',
    '[8.9406967e-08]', '[2.9802323e-08]', '[2.98023224e-08]', '[2.9802326e-08]', '[1e-10,-1e-10]', '[1e-46,-1e-400]'])
    WITH ORDINALITY u (t, n) ORDER BY n;

-- Every subnormal and normal step of the last binade below 1 keeps its text.
SELECT count(*), bool_and(h::halfvec::text = h) AS same
  FROM generate_series(0, 1023) n, LATERAL (SELECT '[' || (n * 2::float8 ^ -24)::real || ']' AS h) s;
SELECT count(*), bool_and(h::halfvec::text = h) AS same
  FROM generate_series(1024, 2047) n, LATERAL (SELECT '[' || (n * 2::float8 ^ -11)::real || ']' AS h) s;

-- Text: errors
SELECT t, code, message, detail FROM unnest(ARRAY[
    '', ' ', '1,2', '{1,2}', 'NULL', '[', '[1', '[1,', '[1,2', '[,', '[,1]', '[1,]', '[1,,2]', '[1 2]', '[1;2]', '[one]', '[1,2x]',
    '[1e]', '[1e+]', '[--1]', '[- 1]', '[.]', '[0x]', '[1]]', '[1]x', '[1] [2]', '[1],', '[[1]]', '[]', '[ ]', '[1', ']', '[''1'']',
    '[NaN]', '[1,-nan]', '[nan(1)]', '[Infinity]', '[1,-inf]', '[+INF]', '[infinite]', '[65520]', '[1,-65520]', '[1e5]', '[1e39]',
    '[-4e38]', '[1e400]', '[  99999  ]'])
    WITH ORDINALITY u (t, n), outcome(format('SELECT %L::halfvec', t)) ORDER BY n;
SELECT code, message, length(detail) FROM outcome($$SELECT ('[1,' || repeat('2 ', 3) || ']')::halfvec$$);

-- Limits
SELECT vector_dims(('[' || repeat('1,', 15999) || '1]')::halfvec);
SELECT code, message FROM outcome($$SELECT ('[' || repeat('1,', 16000) || '1]')::halfvec$$);
SELECT code, message FROM outcome($$SELECT ('[' || repeat('1,', 16000) || 'x')::halfvec$$);

-- Type modifier
SELECT '[1,2,3]'::halfvec(3), '[1,2,3]'::halfvec::halfvec(3), format_type('halfvec'::regtype, 384);
SELECT s, code, message FROM unnest(ARRAY[
    $$'[1,2,3]'::halfvec(2)$$, $$'[1,2,3]'::halfvec::halfvec(4)$$, $$'[]'::halfvec(2)$$, $$'[1]'::halfvec(0)$$, $$'[1]'::halfvec(-1)$$,
    $$'[1]'::halfvec(16000)$$, $$'[1]'::halfvec(16001)$$, $$'[1]'::halfvec(1, 2)$$, $$'[1]'::halfvec('one')$$, $$'[1]'::halfvec('1')$$,
    $$'[1]'::halfvec(99999999999)$$, $$'[1]'::halfvec(NULL)$$, $$'[1]'::halfvec()$$, $$halfvec_typmod_in('{}')$$,
    $$halfvec_typmod_in('{{1}}')$$, $$halfvec_typmod_in('{NULL}')$$, $$halfvec_typmod_in('{3}')$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- A table: short and long headers, out-of-line values, NULL, and the modifier of the column
CREATE TABLE halves (id integer PRIMARY KEY, h halfvec);
INSERT INTO halves
SELECT d, array_agg(n % 1000 ORDER BY n) FROM unnest(ARRAY[1, 2, 59, 60, 61, 62, 384, 1200, 16000]) d, generate_series(1, d) n
 GROUP BY d;
INSERT INTO halves VALUES (0, NULL);
SELECT id, vector_dims(h), (h::real[])[1] AS first, (h::real[])[id] AS last, h <+> h AS zero, pg_column_size(h) AS bytes
  FROM halves ORDER BY id;
CREATE TABLE fixed_halves (id integer PRIMARY KEY, h halfvec(3) DEFAULT '[0,0,0]');
INSERT INTO fixed_halves VALUES (1, '[1,2,3]'), (2, ARRAY[4, 5, 6]), (3, NULL);
INSERT INTO fixed_halves (id) VALUES (4);
INSERT INTO fixed_halves VALUES (5, '[1,2]');
INSERT INTO fixed_halves VALUES (5, ARRAY[1, 2]);
UPDATE fixed_halves SET h = '[1]' WHERE id = 1;
ALTER TABLE fixed_halves ALTER h TYPE halfvec(2);
ALTER TABLE fixed_halves ALTER h TYPE vector(3);
ALTER TABLE fixed_halves ALTER h TYPE halfvec(3);
TABLE fixed_halves;
CREATE TABLE compressed_halves (h halfvec);
ALTER TABLE compressed_halves ALTER h SET STORAGE main;
INSERT INTO compressed_halves SELECT array_fill(2::real, ARRAY[10000]);
SELECT vector_dims(h), l2_norm(h), pg_column_size(h) < 4000 AS is_small FROM compressed_halves;

-- Binary, and arrays of halfvec
SELECT halfvec_send('[1,-2,0.5,65504,5.9604645e-08,-0]');
SELECT ARRAY['[1,2]'::halfvec, '[3]'], array_agg(h ORDER BY id) FROM fixed_halves WHERE id < 4;

-- Distances. Their sums are single precision.
SELECT '[0,0]'::halfvec <-> '[3,4]' AS l2, '[1,2]'::halfvec <#> '[3,4]' AS ip, '[1,0]'::halfvec <=> '[0,2]' AS cosine,
       '[1,2]'::halfvec <+> '[3,5]' AS l1;
SELECT l2_distance('[0,0]'::halfvec, '[3,4]'), inner_product('[1,2]'::halfvec, '[3,4]'),
       cosine_distance('[1,1]'::halfvec, '[-1,-1]'), l1_distance('[1,2]'::halfvec, '[3,5]'),
       halfvec_l2_squared_distance('[0,0]', '[3,4]') AS l2_squared, halfvec_negative_inner_product('[1,2]', '[3,4]') AS negative_ip,
       halfvec_spherical_distance('[1,0]', '[0,1]') AS spherical;
SELECT '[0,0]'::halfvec <=> '[1,1]' AS undirected, '[1,1]'::halfvec <=> '[1,1]' AS same, '[1,2]'::halfvec <=> '[2,4]' AS parallel,
       halfvec_spherical_distance('[3,4]', '[3,4]') AS not_below_0, halfvec_spherical_distance('[3,4]', '[-3,-4]') AS not_above_1;
SELECT '[65504]'::halfvec <-> '[-65504]' AS l2, '[65504]'::halfvec <+> '[-65504]' AS l1,
       '[65504,65504]'::halfvec <#> '[65504,-65504]' AS ip, '[65504]'::halfvec <=> '[5.9604645e-08]' AS cosine,
       '[5.9604645e-08]'::halfvec <-> '[0]' = 2::float8 ^ -24 AS smallest;
SELECT array_fill(60000, ARRAY[16000])::halfvec <+> array_fill(-60000, ARRAY[16000])::halfvec > 1.9e9 AS more_than_a_half;
SELECT d, l2_distance(a, b), inner_product(a, b), l1_distance(a, b), round(cosine_distance(a, b)::numeric, 6) AS cosine
  FROM generate_series(1, 33) d,
       LATERAL (SELECT array_agg(n)::halfvec AS a, array_agg(n + 2 * (n % 2))::halfvec AS b FROM generate_series(1, d) n) s
 WHERE d IN (1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33) ORDER BY d;
SELECT s, code, message FROM unnest(ARRAY[
    $$'[1,2]'::halfvec <-> '[3]'$$, $$'[1,2]'::halfvec <#> '[3]'$$, $$'[1,2]'::halfvec <=> '[3]'$$, $$'[1]'::halfvec <+> '[1,2]'$$,
    $$halfvec_l2_squared_distance('[1,2]', '[3]')$$, $$halfvec_spherical_distance('[1,2]', '[3]')$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;
SELECT '[1,2]'::halfvec <-> NULL AS l2, NULL::halfvec <=> '[1]' AS cosine;

-- Order: values first, then dimensions
SELECT '[1,2]'::halfvec < '[1,3]' AS lt, '[1,2]'::halfvec <= '[1,2]' AS le, '[1,2]'::halfvec = '[1,2]' AS eq,
       '[1,2]'::halfvec <> '[1,2]' AS ne, '[1,2]'::halfvec >= '[1,2,0]' AS ge, '[2]'::halfvec > '[1,5]' AS gt,
       '[0]'::halfvec = '[-0]' AS zeros;
SELECT a, b, halfvec_cmp(a::halfvec, b::halfvec) FROM (VALUES ('[1]', '[1,0]'), ('[1]', '[1]'), ('[2]', '[1,0]'), ('[-1,5]', '[-1,6]'),
    ('[-0]', '[0]'), ('[5.9604645e-08]', '[0]'), ('[1,2,-1]', '[1,2]')) v (a, b);
SELECT DISTINCT h FROM (VALUES ('[1,2]'::halfvec), ('[1]'), ('[1,2]'), ('[0,9]'), (NULL), ('[-65504]')) t (h) ORDER BY h;

DROP TABLE halves, fixed_halves, compressed_halves;
