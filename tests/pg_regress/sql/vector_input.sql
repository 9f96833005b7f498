-- Text of the type vector: what is accepted, and every way to be refused.

-- Numbers as the C library reads them, white space around each token, rounding to the nearest single
SELECT t, t::vector FROM unnest(ARRAY[
    E'\t\n\r\x0b\f[1\t,\n2]\x0b\f', '[+1,.5,5.,007]', '[1E3,1e+3,1e-3]', '[0x10,0x1p-3,0X.8,-0xAp1]', '[0,-0,+0,0e999]',
    '[16777217,16777219]', '[0.1,0.30000001192092896]', '[123456789,1234567890123456789012345678901234567890e-10]',
    '[1000000,999999,0.0001,0.00001]', '[3.4028235e38,-3.4028235e38]', '[3.40282356e38]', '[1.1754944e-38,1e-38,1.4e-45,1e-45]',
    '[7.1e-46,7e-46,1e-46,-1e-400]', '[97474816,9.747482e7]', '[1.00000005960464477539062,1.00000005960464477539063]'])
    WITH ORDINALITY u (t, n) ORDER BY n;

-- Refused
SELECT t, code, message, detail FROM unnest(ARRAY[
    '', ' ', '1', '{1,2}', '(1)', 'NULL', '[', '[ ', '[1', '[1,', '[1, ', '[1,2', '[,', '[,1]', '[1,]', '[1, ]', '[1,,2]', '[1 2]', '[1;2]', '[one]',
    '[1,2x]', '[1e]', '[1e+]', '[--1]', '[- 1]', '[.]', '[1.2.3]', '[0x]', '[0xg]', '[1_000]', '[1]]', '[1]x', '[1] [2]', '[1],', '[[1]]', '[1)',
    ']', '["1"]', '[null]', '[1,true]', '[１]', '[é]'])
    WITH ORDINALITY u (t, n), outcome(format('SELECT %L::vector', t)) ORDER BY n;
SELECT t, code, message, detail FROM unnest(ARRAY[
    '[]', '[ ]', E'[\n]x', '[NaN]', '[1,-nan]', '[nan(1)]', '[Infinity]', '[1,-inf]', '[+INF]', '[infinite]', '[3.40282357e38]',
    '[-3.5e38]', '[1,  1e400 ,x]', '[0x1p128]', '[NaN,x]', '[1e39', '[nan'])
    WITH ORDINALITY u (t, n), outcome(format('SELECT %L::vector', t)) ORDER BY n;

-- What is found first: the count while reading, then the syntax, then the modifier
SELECT code, message FROM outcome($$SELECT ('[' || repeat('1,', 16000) || '1]')::vector$$);
SELECT code, message FROM outcome($$SELECT ('[' || repeat('1,', 16000) || 'x')::vector$$);
SELECT code, message FROM outcome($$SELECT ('[' || repeat('1,', 16000))::vector$$);
SELECT code, left(message, 45) AS message FROM outcome($$SELECT ('[' || repeat('1,', 15999))::vector$$);
SELECT s, code, message, detail FROM unnest(ARRAY[
    $$'[1,2]x'::vector(3)$$, $$'[1,NaN]'::vector(3)$$, $$'[]'::vector(3)$$, $$'[1,2]'::vector(3)$$, $$'[1,2]'::vector::vector(3)$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- Type modifiers
SELECT s, code, message FROM unnest(ARRAY[
    $$'[1]'::vector(-1)$$, $$'[1]'::vector(16000)$$, $$'[1]'::vector('1')$$, $$'[1]'::vector('one')$$, $$'[1]'::vector(one)$$, $$'[1]'::vector(1.5)$$,
    $$'[1]'::vector(99999999999)$$, $$'[1]'::vector(NULL)$$, $$'[1]'::vector()$$, $$vector_typmod_in('{}')$$, $$vector_typmod_in('{{1}}')$$,
    $$vector_typmod_in('{NULL}')$$, $$vector_typmod_in('{3}')$$, $$vector_typmod_in('{1,2}')$$, $$vector_typmod_in(NULL)$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;
SELECT format_type('vector'::regtype, NULL), format_type('vector'::regtype, -1), format_type('vector'::regtype, 3);

-- Text of random bits, also subnormal ones, is read back to the same bits.
SELECT count(*) AS numbers, bool_and(vector_send(v::text::vector) = vector_send(v)) AS same_bits
  FROM (SELECT ARRAY[s * (1 + m / 8388608::float8) * 2::float8 ^ e]::vector AS v
          FROM (SELECT CASE n % 2 WHEN 0 THEN 1 ELSE -1 END AS s, ('x' || md5(n::text))::bit(23)::integer AS m, n % 276 - 149 AS e
                  FROM generate_series(1, 5000) n) r) t;
-- So it is for each power of two, and next to it.
SELECT count(*) AS numbers, bool_and(vector_send(v::text::vector) = vector_send(v)) AS same_bits
  FROM generate_series(-126, 127) e, unnest(ARRAY[1 - 2::float8 ^ -24, 1, 1 + 2::float8 ^ -23]) f, LATERAL (SELECT ARRAY[f * 2::float8 ^ e]::vector) t (v);
