-- Distances of bit strings: Hamming and Jaccard.

-- Hamming: how many bits differ
SELECT a, b, a <~> b AS hamming, b <~> a AS commuted, hamming_distance(a, b)
  FROM (VALUES (B'0', B'0'), (B'0', B'1'), (B'111', B'111'), (B'111', B'110'), (B'111', B'000'), (B'10101010', B'01010101'),
               (B'101010101', B'010101011'), (B'', B'')) v (a, b);
SELECT pg_typeof(B'1' <~> B'0');

-- Jaccard: 1 - (bits set in both) / (bits set in any); 1 if no bit is set in both, also if none is set at all
SELECT a, b, a <%> b AS jaccard, b <%> a AS commuted, jaccard_distance(a, b)
  FROM (VALUES (B'0', B'0'), (B'1', B'1'), (B'1', B'0'), (B'1100', B'1000'), (B'1111', B'1110'), (B'1100', B'0011'),
               (B'1111000011', B'1111110000'), (B'', B'')) v (a, b);

-- Lengths around whole bytes and words: the unused bits of the last byte do not count.
SELECT n, ones <~> zeros AS hamming, ones <~> ones AS same, ones <%> zeros AS nothing, ones <%> ones AS all,
       ones <~> odd AS hamming_odd, ones <%> odd AS odd
  FROM unnest(ARRAY[1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 511, 512, 513, 4096, 16001]) n,
       LATERAL (SELECT repeat('1', n)::varbit AS ones, ~ repeat('1', n)::varbit AS zeros,
                       left(repeat('10', n), n)::varbit AS odd) s
 ORDER BY n;

-- The same by counting single bits
CREATE TABLE bits (id integer PRIMARY KEY, b bit(100));
INSERT INTO bits SELECT i, ('x' || md5(i::text))::bit(100) FROM generate_series(1, 30) i;
INSERT INTO bits VALUES (0, NULL), (31, repeat('0', 100)::bit(100));
SELECT count(*),
       bool_and(a.b <~> b.b = (SELECT count(*) FROM generate_series(0, 99) n WHERE get_bit(a.b, n) <> get_bit(b.b, n))) AS hamming,
       bool_and(abs((a.b <%> b.b) - (SELECT coalesce(1 - (sum(get_bit(a.b, n) & get_bit(b.b, n))::float8
                                                         / nullif(sum(get_bit(a.b, n) | get_bit(b.b, n)), 0)), 1)
                                       FROM generate_series(0, 99) n)) < 1e-12) AS jaccard
  FROM bits a, bits b WHERE a.id > 0 AND b.id > 0;

-- NULL, order by distance
SELECT B'1' <~> NULL AS hamming, NULL::bit <%> B'1' AS jaccard;
SELECT id, b <~> (SELECT b FROM bits WHERE id = 7) AS hamming FROM bits ORDER BY 2, id LIMIT 3;
SELECT id FROM bits ORDER BY b <%> (SELECT b FROM bits WHERE id = 31) NULLS LAST, id LIMIT 2;
SELECT count(*) FROM bits WHERE b <~> repeat('0', 100)::bit(100) = length(replace(b::text, '0', ''));

-- bit, bit varying, literals and casts
SELECT B'1010' <~> '1000' AS unknown, '1010'::bit(4) <~> '1000'::bit(4) AS fixed, '1010'::varbit <~> '1000'::varbit AS varying,
       10::bit(8) <~> 12::bit(8) AS from_integer, X'FF' <~> X'0F' AS hexadecimal;
SELECT binary_quantize('[1,-1,0.5]'::vector) <~> binary_quantize('[1,1,-0.5]'::halfvec) AS quantized;

-- Errors
SELECT s, code, message, detail FROM unnest(ARRAY[
    $$B'111' <~> B'11'$$, $$B'111' <%> B'11'$$, $$hamming_distance(B'', B'1')$$, $$jaccard_distance(B'1', B'')$$,
    $$B'1' <~> '12'$$, $$B'1' <~> 1$$, $$B'1' <-> B'1'$$, $$'[1]'::vector <~> '[1]'$$,
    $$repeat('1', 100000)::varbit <~> repeat('1', 99999)::varbit$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;
DROP TABLE bits;
