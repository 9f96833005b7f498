-- Filter columns of the index hnsw: every type and operator next to a scan of the table; what is an error.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE filtered (
    id integer PRIMARY KEY, v vector(8), b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, n numeric,
    tx text, tc text COLLATE "C", vc varchar(20), bp char(6), nm name, u uuid, d date, ts timestamp, tz timestamptz, tm time,
    iv interval, ip inet, m mood, by bytea, ai integer[], at text[], j jsonb
);
-- Rows whose vectors, and all else, follow from their numbers.
CREATE FUNCTION fill(first integer, last integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO filtered
    SELECT g, ARRAY(SELECT (g * (e * e + 7) % 101) / 101.0 FROM generate_series(1, 8) AS e)::vector(8),
           CASE WHEN g % 10 = 0 THEN NULL ELSE g % 3 = 0 END,
           CASE WHEN g % 11 = 0 THEN NULL ELSE g % 100 - 50 END,
           CASE WHEN g % 11 = 0 THEN NULL ELSE g % 1000 END,
           CASE WHEN g % 11 = 0 THEN NULL ELSE g % 1000 * 10000000000 END,
           CASE WHEN g % 50 = 0 THEN 'NaN' WHEN g % 11 = 0 THEN NULL ELSE g % 100 / 7.0 END,
           CASE WHEN g % 50 = 0 THEN '-0' WHEN g % 11 = 0 THEN NULL ELSE (g % 100 - 50) / 7.0 END,
           CASE WHEN g % 11 = 0 THEN NULL ELSE (g % 100 - 50) / 7.0::numeric END,
           CASE WHEN g % 11 = 0 THEN NULL ELSE 'word' || g % 100 || 'z' END,
           'w' || g % 60, 'v' || g % 30, 'c' || g % 30, 'n' || g % 30,
           ('00000000-0000-0000-0000-0000000000' || lpad((g % 90)::text, 2, '0'))::uuid,
           CASE WHEN g % 40 = 0 THEN 'infinity' ELSE date '2024-01-01' + g % 400 END,
           timestamp '2024-01-01' + g % 400 * interval '7 hours', timestamptz '2024-01-01' + g % 400 * interval '7 hours',
           time '00:00' + g % 400 * interval '3 minutes', g % 100 * interval '1 day' + g % 7 * interval '1 month',
           ('10.0.' || g % 20 || '.0/24')::inet, (ARRAY['sad', 'ok', 'happy']::mood[])[g % 3 + 1],
           decode(lpad(to_hex(g % 300), 8, '0'), 'hex'),
           CASE WHEN g % 13 = 0 THEN NULL WHEN g % 17 = 0 THEN '{}' ELSE ARRAY[g % 50, g % 7 + 100, NULL] END,
           ARRAY['t' || g % 40, 'u' || g % 9],
           jsonb_build_object('k' || g % 5, g % 20, 'tags', jsonb_build_array('a' || g % 6, g % 4),
                              'o', jsonb_build_object('x', g % 8 = 0))
      FROM generate_series(first, last) AS g
$$;
SELECT fill(1, 1000);
CREATE INDEX filtered_v ON filtered USING hnsw
    (b, i2, i4, v vector_l2_ops, i8, f4, f8, n, tx, tc, vc, bp, nm, u, d, ts, tz, tm, iv, ip, m, by, ai, at, j);
-- As many rows one by one, some without a vector, some removed again.
SELECT fill(1001, 2000);
UPDATE filtered SET v = NULL WHERE id % 97 = 0;
UPDATE filtered SET i4 = i4 + 1, tx = upper(tx) WHERE id % 31 = 0;
DELETE FROM filtered WHERE id % 23 = 0;
VACUUM ANALYZE filtered;
SELECT hnsw_check('filtered_v');

-- Whether a clause goes to the index, rows that it misses, rows that it gives and should not, and how many there are.
CREATE FUNCTION compare(clause text, OUT pushed boolean, OUT missing bigint, OUT extra bigint, OUT matching bigint) LANGUAGE plpgsql AS $$
DECLARE
    query text := format('SELECT id FROM filtered WHERE %s ORDER BY v <-> ''[1,0,1,0,1,0,1,0]'' LIMIT 10000', clause);
    line text;
    by_index integer[];
    by_table integer[];
BEGIN
    SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexscan = on;
    pushed := false;
    FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
        pushed := pushed OR line LIKE '%Index Cond:%';
    END LOOP;
    EXECUTE format('SELECT array_agg(id) FROM (%s) AS s', query) INTO by_index;
    SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on; SET LOCAL enable_indexscan = off;
    EXECUTE format('SELECT array_agg(id) FROM filtered WHERE (%s) AND v IS NOT NULL', clause) INTO by_table;
    SELECT count(*) INTO missing FROM (SELECT unnest(by_table) EXCEPT ALL SELECT unnest(by_index)) AS s;
    SELECT count(*) INTO extra FROM (SELECT unnest(by_index) EXCEPT ALL SELECT unnest(by_table)) AS s;
    matching := coalesce(cardinality(by_table), 0);
END
$$;
SET timezone = 'Europe/Berlin';
SELECT clause, (compare(clause)).* FROM unnest(ARRAY[
    'b','NOT b','b = true','b IS NULL','b IS NOT NULL','b IS NOT TRUE','b > false',
    'i2 = 7','i2 < -40','i2 <> 7','i2 = 100000','i2 < 100000','i2 > -100000::bigint','i2 BETWEEN -5 AND 5','i2 IN (1,2,3,70000)','i2 = ANY(NULL::int[])','i2 = ANY(ARRAY[NULL,4]::int2[])','i2 = NULL',
    'i4 = 500','i4 = 500::bigint','i4 >= 900','i4 <= 10::int2','i4 NOT IN (1,2)','i4 IS NULL',
    'i8 = 50000000000','i8 < 1000000000000','i8 > 3','i8 = 3::int2','i8 IN (0, 10000000000)',
    'f4 = 1','f4 > 10.5','f4 < 3::real','f4 = ''NaN''','f4 > 1e300','f4 <> 2::real','f4 = 4::float4',
    'f8 = 0','f8 < -1.5','f8 >= 0::real','f8 = -0.0','f8 IS NULL','f8 <> 0',
    'n = 1','n < -3.3','n > 50/7.0 - 8','n BETWEEN 0 AND 1','n <> 1','n IN (1, -1, 2.0)', 'n >= (3/7.0)::numeric',
    'tx = ''word5z''','tx > ''word5''','tx LIKE ''word1%''','tx LIKE ''w%''','tx LIKE ''%9z''','tx LIKE ''word12z''','tx LIKE ''word1_z''','tx <> ''word1z''','tx IN (''word1z'',''word2z'',''x'')','tx IS NULL','tx LIKE E''word\\%''', 'tx BETWEEN ''word1'' AND ''word2''',
    'tc = ''w5''','tc < ''w3''','tc >= ''w55''','tc LIKE ''w1%''','tc BETWEEN ''w1'' AND ''w2''',
    'vc = ''v3''','vc LIKE ''v2%''','bp = ''c3''','bp = ''c3   ''','bp < ''c2''','nm = ''n4''','nm LIKE ''n1%''',
    'u = ''00000000-0000-0000-0000-000000000042''','u < ''00000000-0000-0000-0000-000000000011''','u IN (''00000000-0000-0000-0000-000000000042'')',
    'd = ''2024-03-01''','d < ''2024-03-01''','d >= timestamp ''2024-12-01 12:00''','d < timestamp ''2024-01-03 12:00''','d = timestamp ''2024-01-03 00:00''','d = timestamp ''2024-01-03 01:00''','d > timestamptz ''2024-12-01''','d = ''infinity''','d < ''infinity''','d > ''-infinity''',
    'ts = ''2024-01-01 07:00''','ts < ''2024-01-20''','ts >= date ''2024-04-01''','ts > timestamptz ''2024-04-01''','tz < ''2024-01-20''','tz = timestamp ''2024-01-01 07:00''','tz BETWEEN ''2024-02-01'' AND ''2024-02-03''','tz >= date ''2024-04-01''',
    'tm = ''01:00''','tm < ''00:30''','iv = ''36 days''','iv = ''1 month 6 days''','iv < ''1 week''','iv > ''2 months''',
    'ip = ''10.0.3.0/24''','ip < ''10.0.3.0/24''','ip <> ''10.0.3.0/24''','m = ''sad''','m <> ''sad''','m > ''sad''','m IN (''ok'')',
    'by = ''\x00000005''','by < ''\x00000010''',
    'ai && ''{5}''','ai && ''{5,104}''','ai @> ''{5}''','ai @> ''{5,102}''','ai <@ ''{5,102,103,104}''','ai = ''{}''','ai @> ''{}''','ai && ''{}''','ai && ''{NULL}''','ai @> ''{NULL}''','ai IS NULL','ai = ''{1,101,NULL}''','at && ''{t3,u4}''','5 = ANY(ai)','104 = ANY(ai)','''t3'' = ANY(at)','NULL::int = ANY(ai)','5 <> ANY(ai)','at @> ''{t3}''',
    'j @> ''{"k1": 1}''','j @> ''{"tags": ["a1"]}''','j @> ''{"o": {"x": true}}''','j @> ''{}''','j ? ''k3''','j ? ''tags''','j ? ''nothing''','j @> ''{"k1": 1.0}''',
    'i4 < 100 AND b','i4 BETWEEN 100 AND 200 AND tx LIKE ''word1%'' AND d IS NOT NULL','v IS NOT NULL AND i4 < 10','v IS NULL','i4 < 500 AND id % 7 = 0'
]) AS clause;
RESET timezone;

-- Conditions that change: parameters, a join, a cursor, partitions.
SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off;
PREPARE nearest(integer, text) AS
    SELECT id, i4, tx FROM filtered WHERE i4 < $1 AND tx LIKE $2 ORDER BY v <-> '[1,0,1,0,1,0,1,0]' LIMIT 3;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE nearest(100, 'word1%');
EXECUTE nearest(100, 'word1%');
EXECUTE nearest(30, 'word2%');
EXECUTE nearest(NULL, 'word2%');
RESET plan_cache_mode;
SELECT k, near.id, near.i2 FROM (VALUES (3), (-7), (NULL)) AS keys (k)
  LEFT JOIN LATERAL (SELECT id, i2 FROM filtered WHERE i2 = k ORDER BY v <-> '[0,0,0,0,1,1,1,1]' LIMIT 2) AS near ON true;
BEGIN;
DECLARE steps CURSOR FOR SELECT id FROM filtered WHERE i2 = 5 ORDER BY v <-> '[0,0,0,0,1,1,1,1]';
FETCH 2 FROM steps;
FETCH 3 FROM steps;
MOVE FORWARD ALL IN steps;
COMMIT;
CREATE TABLE parted (tenant integer, v vector(2)) PARTITION BY LIST (tenant);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2, 3);
CREATE INDEX ON parted USING hnsw (v vector_l2_ops, tenant);
INSERT INTO parted SELECT n % 3 + 1, ARRAY[n, n] FROM generate_series(1, 30) AS n;
EXPLAIN (COSTS OFF) SELECT * FROM parted WHERE tenant = 3 ORDER BY v <-> '[0,0]' LIMIT 2;
SELECT * FROM parted WHERE tenant = 3 ORDER BY v <-> '[0,0]' LIMIT 2;

-- Row-level security: no function of the user's sees rows that a policy hides, and none of them is returned.
CREATE TABLE secret (id integer, tenant text, v vector(2));
INSERT INTO secret SELECT n, CASE n % 2 WHEN 0 THEN 'filter_reader' ELSE 'other' END, ARRAY[n, n] FROM generate_series(1, 20) AS n;
CREATE INDEX ON secret USING hnsw (v vector_l2_ops, tenant);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (tenant = current_user);
CREATE ROLE filter_reader;
GRANT SELECT ON secret TO filter_reader;
CREATE FUNCTION tell(id integer) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
    RAISE WARNING 'row %', id;
    RETURN true;
END
$$;
SET ROLE filter_reader;
SELECT id, tenant FROM secret WHERE tell(id) ORDER BY v <-> '[1,1]' LIMIT 3;
SELECT count(*) FROM (SELECT FROM secret WHERE tenant = 'other' ORDER BY v <-> '[1,1]') AS found;
RESET ROLE;
DROP TABLE secret;
DROP ROLE filter_reader;

-- What is an error
CREATE TABLE wrong (a vector(2), b vector(2), c json, d point);
CREATE INDEX ON wrong USING hnsw (a vector_l2_ops, b vector_l2_ops);
\set VERBOSITY default
CREATE INDEX ON wrong USING hnsw (a vector_l2_ops, c);
CREATE INDEX ON wrong USING hnsw (a no_ops);
CREATE INDEX ON wrong USING gist (c);
\set VERBOSITY terse
CREATE INDEX ON wrong USING hnsw (a vector_l2_ops, d);
CREATE TABLE filters_only (i integer);
CREATE INDEX ON filters_only USING hnsw (i);
DROP TABLE filtered, parted, wrong, filters_only;
DROP FUNCTION fill, compare, tell;
DROP TYPE mood;
