-- Functions of vector and halfvec: arithmetic, pieces, quantization, norms.

-- + - * element by element, || one after the other
SELECT '[1,2,3]'::vector + '[4,5.5,-6]' AS plus, '[1,2,3]'::vector - '[4,5.5,-6]' AS minus, '[1,2,3]'::vector * '[4,5.5,-6]' AS times,
       '[1,2,3]'::vector || '[4]' AS joined;
SELECT '[1,2,3]'::halfvec + '[4,5.5,-6]' AS plus, '[1,2,3]'::halfvec - '[4,5.5,-6]' AS minus, '[1,2,3]'::halfvec * '[4,5.5,-6]' AS times,
       '[1,2,3]'::halfvec || '[4]' AS joined;
SELECT '[0.1]'::vector + '[0.2]' AS single, '[0.1]'::halfvec + '[0.2]' AS half, '[2048]'::halfvec + '[1]' AS tie, '[2048]'::halfvec + '[1.5]' AS up,
       '[-0]'::vector + '[-0]' AS zero_plus, '[0]'::vector * '[-1]' AS zero_times, '[1]'::vector - '[1]' AS zero_minus;
-- A vector and a half give halves; the implicit cast goes this way.
SELECT pg_typeof('[1]'::vector + '[1]'::halfvec), '[0.1]'::vector + '[0]'::halfvec AS plus, '[0.1]'::vector || '[1]'::halfvec AS joined;
SELECT vector_add('[1]', '[2]'), vector_sub('[1]', '[2]'), vector_mul('[1]', '[2]'), vector_concat('[1]', '[2]'),
       halfvec_add('[1]', '[2]'), halfvec_sub('[1]', '[2]'), halfvec_mul('[1]', '[2]'), halfvec_concat('[1]', '[2]');
SELECT '[1]'::vector + NULL AS plus, NULL::halfvec || '[1]' AS joined;
SELECT vector_dims(array_fill(1, ARRAY[15999])::vector || '[1]') AS vector,
       vector_dims(array_fill(1, ARRAY[8000])::halfvec || array_fill(1, ARRAY[8000])::halfvec) AS half;

-- Out of range, and results that would be 0: only * looks for them.
SELECT '[1e-30]'::vector - '[1e-30]' AS difference, '[1e-45]'::vector * '[0]' AS by_zero, '[1e-45]'::vector * '[1]' AS subnormal,
       '[5.9604645e-08]'::halfvec * '[1]' AS subnormal_half, '[65504]'::halfvec + '[15]' AS rounded;
SELECT s, code, message FROM unnest(ARRAY[
    $$'[1,2]'::vector + '[1]'$$, $$'[1,2]'::vector - '[1]'$$, $$'[1,2]'::vector * '[1]'$$,
    $$'[1,2]'::halfvec + '[1]'$$, $$'[1,2]'::halfvec - '[1]'$$, $$'[1,2]'::halfvec * '[1]'$$,
    $$'[3e38]'::vector + '[3e38]'$$, $$'[-3e38]'::vector - '[3e38]'$$, $$'[1e20]'::vector * '[-1e20]'$$, $$'[1e-30]'::vector * '[1e-30]'$$,
    $$'[1e-45]'::vector * '[0.5]'$$, $$'[1e20,1e-30]'::vector * '[1e20,1e-30]'$$, $$'[1e-30,1e20]'::vector * '[1e-30,1e20]'$$,
    $$'[65504]'::halfvec + '[16]'$$, $$'[-65504]'::halfvec - '[16]'$$, $$'[256]'::halfvec * '[256]'$$, $$'[1e-4]'::halfvec * '[1e-4]'$$,
    $$'[5.9604645e-08]'::halfvec * '[0.5]'$$,
    $$array_fill(1, ARRAY[16000])::vector || '[1]'$$, $$array_fill(1, ARRAY[16000])::halfvec || array_fill(1, ARRAY[16000])::halfvec$$,
    $$'[1]'::vector / '[1]'$$, $$'[1]'::vector * 2$$, $$- '[1]'::vector$$, $$'[1]'::vector + '[1]'$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- subvector: from 1, cut at both ends, at least one element
SELECT start, count, subvector('[1,2,3,4,5]'::vector, start, count), subvector('[1,2,3,4,5]'::halfvec, start, count)
  FROM (VALUES (1, 3), (1, 5), (1, 6), (3, 1), (3, 2), (3, 9), (5, 1), (5, 2), (0, 2), (0, 6), (-1, 3), (-1, 7), (-4, 7), (2, 2147483647),
               (5, 2147483647), (-2147483640, 2147483643), (1, 2147483647)) v (start, count);
SELECT start, count, v.code, v.message, h.code = v.code AND h.message = replace(v.message, 'vector', 'halfvec') AS half_too
  FROM (VALUES (1, 0), (1, -1), (6, 1), (7, 3), (0, 1), (-1, 2), (-5, 5), (2147483647, 1), (2147483647, 2147483647), (-2147483648, 1),
               (-2147483648, 2147483647), (1, -2147483648), (-2147483648, -2147483648), (9, 0)) a (start, count),
       LATERAL outcome(format('SELECT subvector(%L::vector, %s, %s)', '[1,2,3,4,5]', start, count)) v,
       LATERAL outcome(format('SELECT subvector(%L::halfvec, %s, %s)', '[1,2,3,4,5]', start, count)) h;
SELECT subvector(NULL::vector, 1, 1), subvector('[1]'::vector, NULL, 1), subvector('[1]'::halfvec, 1, NULL);
SELECT code, message FROM outcome($$SELECT subvector('{1:1}/3'::sparsevec, 1, 1)$$);

-- binary_quantize: 1 where an element is greater than 0
SELECT binary_quantize('[1,0,-1,-0,0.5,1e-45,-1e-45]'::vector), binary_quantize('[1,0,-1,-0,0.5,5.9604645e-08,-5.9604645e-08]'::halfvec);
SELECT d, binary_quantize(v) = bits AND binary_quantize(v::halfvec) = bits AS same, length(binary_quantize(v)) AS length
  FROM unnest(ARRAY[1, 7, 8, 9, 15, 16, 17, 64, 65, 1000, 16000]) d,
       LATERAL (SELECT array_agg(CASE n * n % 7 % 3 WHEN 0 THEN 0 WHEN 1 THEN n % 50 + 1 ELSE -n % 50 END ORDER BY n)::vector AS v,
                       string_agg(CASE n * n % 7 % 3 WHEN 1 THEN '1' ELSE '0' END, '' ORDER BY n)::varbit AS bits FROM generate_series(1, d) n) s;
SELECT pg_typeof(binary_quantize('[1]'::vector)), binary_quantize('[1,-1,1]'::vector)::bit(3), binary_quantize(NULL::halfvec);
CREATE TABLE quantized (v vector(3), b bit(3) GENERATED ALWAYS AS (binary_quantize(v)::bit(3)) STORED);
INSERT INTO quantized VALUES ('[1,-1,1]'), ('[-1,-1,2]');
TABLE quantized;
DROP TABLE quantized;

-- Norms are doubles; a norm of zero normalizes to zeros.
SELECT vector_norm('[3,4]') AS vector, vector_norm('[0]') AS zero, vector_norm('[-5]') AS negative, vector_norm('[1e38,1e38]') > 1.4e38 AS no_overflow,
       vector_norm('[1e-45]') > 0 AS no_underflow, l2_norm('[3,4]'::halfvec) AS half, l2_norm('[65504,65504]'::halfvec) > 92000 AS no_overflow;
-- vector has vector_norm, the others have l2_norm; implicit casts lead to two of those.
SELECT s, code, message FROM unnest(ARRAY[
    $$l2_norm('[3,4]'::vector)$$, $$l2_norm('[3,4]')$$, $$vector_norm('[3,4]'::halfvec)$$, $$vector_dims('[3,4]')$$, $$l2_normalize('[3,4]')$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;
SELECT l2_normalize('[3,4]'::vector), l2_normalize('[0,0]'::vector), l2_normalize('[0,-0]'::vector), l2_normalize('[0,-5]'::vector),
       l2_normalize('[3e38,3e38]'::vector), l2_normalize('[1e-45]'::vector), l2_normalize('[1e30,1e-30]'::vector);
SELECT l2_normalize('[3,4]'::halfvec), l2_normalize('[0,0]'::halfvec), l2_normalize('[-7]'::halfvec), l2_normalize('[65504,65504]'::halfvec),
       l2_normalize('[5.9604645e-08]'::halfvec), l2_normalize('[65504,5.9604645e-08]'::halfvec);
SELECT max(abs(vector_norm(l2_normalize(v)) - 1)) < 1e-6 AS vector, max(abs(l2_norm(l2_normalize(v::halfvec)) - 1)) < 1e-3 AS half
  FROM (SELECT array_agg(('x' || md5(i || ' ' || n))::bit(10)::integer - 512 ORDER BY n)::vector AS v
          FROM generate_series(1, 50) i, generate_series(1, 40) n GROUP BY i) s;
SELECT vector_dims('[1,2,3]'::vector), vector_dims('[1,2]'::halfvec), vector_dims(NULL::vector);

-- Distances of singles: out of range is infinity, no error; NaN where there is no direction
SELECT '[3e38]'::vector <-> '[-3e38]' AS l2, '[3e38]'::vector <#> '[3e38]' AS ip, '[3e38]'::vector <+> '[-3e38]' AS l1,
       '[3e38]'::vector <=> '[3e38]' AS cosine, '[1e-30]'::vector <-> '[0]' AS l2_small, '[1e-30]'::vector <=> '[1e-30]' AS cosine_small,
       '[1,0]'::vector <#> '[0,1]' AS ip_zero, vector_l2_squared_distance('[0,0]', '[3,4]') AS l2_squared,
       vector_spherical_distance('[1,0]', '[0,1]') AS spherical, vector_spherical_distance('[3]', '[4]') AS kept_in_range;
SELECT d, l2_distance(a, b), inner_product(a, b), l1_distance(a, b), round(cosine_distance(a, b)::numeric, 6) AS cosine
  FROM unnest(ARRAY[1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100]) d,
       LATERAL (SELECT array_agg(n ORDER BY n)::vector AS a, array_agg(n + 2 * (n % 2) ORDER BY n)::vector AS b FROM generate_series(1, d) n) s;
SELECT s, code, message FROM unnest(ARRAY[
    $$vector_l2_squared_distance('[1,2]', '[3]')$$, $$vector_spherical_distance('[1,2]', '[3]')$$, $$vector_negative_inner_product('[1]', '[3,4]')$$,
    $$'[1,2]'::vector <-> ARRAY[1,2]$$, $$l2_distance('[1]', '[1]')$$, $$'[1]'::vector <-> '[1,2]'::halfvec$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;
