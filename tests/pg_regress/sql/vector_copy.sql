-- COPY of vector, halfvec, sparsevec and bit: text, CSV, binary, arrays, errors.
CREATE TABLE originals (id integer PRIMARY KEY, v vector(3), h halfvec(3), s sparsevec(3), b bit(3), vs vector[], hs halfvec[], ss sparsevec[]);
INSERT INTO originals VALUES
    (1, '[1,2,3]', '[1,2,3]', '{1:1,3:3}/3', B'101', ARRAY['[1]'::vector, '[2,3]'], ARRAY['[1]'::halfvec], ARRAY['{1:1}/2'::sparsevec, NULL]),
    (2, NULL, NULL, NULL, NULL, NULL, '{}', ARRAY[NULL::sparsevec]),
    (3, '[0.1,-0,3.4028235e38]', '[0.1,-0,65504]', '{}/3', B'000', '{{"[1]","[2]"},{"[3]","[4]"}}', '[2:3]={"[1]",NULL}', '{}'),
    (4, '[1e-45,-1e-45,1.1754944e-38]', '[5.9604645e-08,-5.9604645e-08,6.1035156e-05]', '{1:1e-45,2:-3.4028235e38,3:1.1754944e-38}/3', B'111',
     NULL, NULL, NULL);

-- Text to the client
COPY originals TO STDOUT;
COPY originals (id, v, h, s, b) TO STDOUT (FORMAT csv, HEADER, NULL 'none');
COPY (SELECT ARRAY[v, NULL] FROM originals WHERE id < 3) TO STDOUT (FORMAT csv);

-- Text from the client
CREATE TABLE copies (LIKE originals);
COPY copies (id, v, h, s, b) FROM STDIN;
11	[1,2,3]	[1,2,3]	{1:1,3:3}/3	101
12	\N	\N	\N	\N
13	 [ 1 , 2 , 3 ] 	[1e0,2,+3]	 { 3 : 1 , 1 : 2 } / 3 	000
\.
COPY copies (id, v, h, s, b) FROM STDIN (FORMAT csv, NULL 'none');
14,"[1,2,3]","[1,2,3]","{1:1,3:3}/3",101
15,none,none,{}/3,none
\.
SELECT id, v, h, s, b FROM copies ORDER BY id;
TRUNCATE copies;

-- Errors say which line and column; nothing of the rest is kept.
\set VERBOSITY default
COPY copies (id, v) FROM STDIN;
21	[1,2,3]
22	[1,2]
\.
COPY copies (id, v) FROM STDIN;
23	[1,2,NaN]
\.
COPY copies (id, v) FROM STDIN (FORMAT csv);
24,[1
\.
COPY copies (id, h) FROM STDIN;
25	[1,2,65520]
\.
COPY copies (id, h) FROM STDIN;
26	[1,2,3]]
\.
COPY copies (id, s) FROM STDIN;
27	{1:1}/4
\.
COPY copies (id, s) FROM STDIN;
28	{4:1}/3
\.
COPY copies (id, vs) FROM STDIN;
29	{"[1]","[]"}
\.
COPY copies (id, b) FROM STDIN;
30	10
\.
\set VERBOSITY terse
SELECT count(*) FROM copies;

-- Binary, through a file in the data directory
SELECT current_setting('data_directory') || '/regress_vectors' AS file \gset
COPY originals TO :'file' (FORMAT binary);
COPY copies FROM :'file' (FORMAT binary);
SELECT count(*) AS rows, bool_and(o IS NOT DISTINCT FROM c) AS same, bool_and(o::text = c::text) AS same_text
  FROM originals o FULL JOIN copies c USING (id);
SELECT id, vector_send(v), halfvec_send(h), sparsevec_send(s) FROM copies ORDER BY id;

-- The bytes of the file: header, then for each row the number of columns, and for each column its length and value
COPY (SELECT v, h, s, b FROM originals WHERE id = 1) TO :'file' (FORMAT binary);
SELECT encode(substr(pg_read_binary_file(:'file'), 1, 21), 'hex') AS header_columns, encode(substr(pg_read_binary_file(:'file'), 22, 20), 'hex') AS vector,
       encode(substr(pg_read_binary_file(:'file'), 42, 14), 'hex') AS halfvec, encode(substr(pg_read_binary_file(:'file'), 56, 32), 'hex') AS sparsevec,
       encode(substr(pg_read_binary_file(:'file'), 88), 'hex') AS bit_end;

-- The modifier of the column counts for binary values, too; and one type is not read as another.
CREATE TABLE others (v vector(2), h halfvec(2), s sparsevec(2));
COPY (SELECT v FROM originals WHERE id = 1) TO :'file' (FORMAT binary);
COPY others (v) FROM :'file' (FORMAT binary);
COPY others (h) FROM :'file' (FORMAT binary);
COPY others (s) FROM :'file' (FORMAT binary);
COPY (SELECT h FROM originals WHERE id = 1) TO :'file' (FORMAT binary);
COPY others (h) FROM :'file' (FORMAT binary);
COPY others (v) FROM :'file' (FORMAT binary);
COPY (SELECT s FROM originals WHERE id = 1) TO :'file' (FORMAT binary);
COPY others (s) FROM :'file' (FORMAT binary);
COPY others (v) FROM :'file' (FORMAT binary);
SELECT count(*) FROM others;

-- Long values and many rows
CREATE TABLE long_originals AS
SELECT d AS id, array_agg(n / 7.0 ORDER BY n)::vector AS v, array_agg(n / 7.0 ORDER BY n)::halfvec AS h, array_agg(n % 3 ORDER BY n)::sparsevec AS s
  FROM unnest(ARRAY[1, 2, 100, 2000, 16000]) d, generate_series(1, d) n GROUP BY d;
INSERT INTO long_originals SELECT -i, ARRAY[i, i % 10, 1]::vector, ARRAY[i % 100, 0]::halfvec, ARRAY[i % 2, 0, i % 7]::sparsevec
  FROM generate_series(1, 5000) i;
CREATE TABLE long_copies (LIKE long_originals);
COPY long_originals TO :'file' (FORMAT binary);
COPY long_copies FROM :'file' (FORMAT binary);
SELECT count(*), bool_and(o.v = c.v AND o.h = c.h AND o.s = c.s) AS same FROM long_originals o FULL JOIN long_copies c USING (id);
TRUNCATE long_copies;
COPY long_originals TO :'file';
COPY long_copies FROM :'file';
SELECT count(*), bool_and(o.v = c.v AND o.h = c.h AND o.s = c.s) AS same FROM long_originals o FULL JOIN long_copies c USING (id);

COPY (SELECT WHERE false) TO PROGRAM 'rm -f regress_vectors';
DROP TABLE originals, copies, others, long_originals, long_copies;
