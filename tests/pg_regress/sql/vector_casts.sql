-- Casts among vector, halfvec, sparsevec and arrays of numbers.

-- The contexts: i is implicit, a assignment, e explicit
SELECT castsource::regtype AS source, casttarget::regtype AS target, castcontext, castmethod, castfunc::regprocedure
  FROM pg_cast
 WHERE castsource::regtype::text IN ('vector', 'halfvec', 'sparsevec') OR casttarget::regtype::text IN ('vector', 'halfvec', 'sparsevec')
 ORDER BY castsource::regtype::text COLLATE "C", casttarget::regtype::text COLLATE "C";

-- Every cast, explicit
SELECT '{1,-2,0}'::integer[]::vector, '{1.5,-2,0}'::real[]::vector, '{1.5,-2,0}'::float8[]::vector, '{1.5,-2,0}'::numeric[]::vector;
SELECT '{1,-2,0}'::integer[]::halfvec, '{1.5,-2,0}'::real[]::halfvec, '{1.5,-2,0}'::float8[]::halfvec, '{1.5,-2,0}'::numeric[]::halfvec;
SELECT '{1,-2,0}'::integer[]::sparsevec, '{1.5,-2,0}'::real[]::sparsevec, '{1.5,-2,0}'::float8[]::sparsevec, '{1.5,-2,0}'::numeric[]::sparsevec;
SELECT '[1.5,-2,0]'::vector::halfvec, '[1.5,-2,0]'::vector::sparsevec, '[1.5,-2,0]'::halfvec::vector, '[1.5,-2,0]'::halfvec::sparsevec,
       '{1:1.5,2:-2}/3'::sparsevec::vector, '{1:1.5,2:-2}/3'::sparsevec::halfvec;
SELECT '[1.5,-2,0]'::vector::real[], '[1.5,-2,0]'::halfvec::real[], '[1.5,-2,0]'::vector::vector, '[1.5]'::halfvec::halfvec, '{}/3'::sparsevec::sparsevec;
SELECT ('[1.5,-2,0]'::vector::real[])[2], array_length('[1.5,-2,0]'::halfvec::real[], 1), array_lower('[1]'::vector::real[], 1);
SELECT NULL::real[]::vector, NULL::vector::halfvec, NULL::sparsevec::vector, NULL::halfvec::real[];
-- Bounds of the array do not matter.
SELECT '[5:7]={1,2,3}'::integer[]::vector, '[-1:0]={1,0}'::real[]::sparsevec;

-- Rounding: doubles and numbers go through single precision, also on the way to half
SELECT '{16777217,2147483647,-2147483648}'::integer[]::vector, '{0.1,16777217,1e-50}'::float8[]::vector, '{0.1,16777217}'::numeric[]::vector;
SELECT '{2049,65519,-65519}'::integer[]::halfvec, '{0.1,1.00048828125,1e-10}'::real[]::halfvec, '{1.0004882812500001,1.0004884}'::float8[]::halfvec,
       '{1.0004882812500001,1.0004884}'::numeric[]::halfvec, '[0.1,1e-10,-1e-10,65519]'::vector::halfvec;
SELECT '{1e-50,-0,0.1,-1e-50}'::float8[]::sparsevec, '{0,0.00,1}'::numeric[]::sparsevec, '[-0,1e-45]'::vector::sparsevec,
       '[-0,5.9604645e-08]'::halfvec::sparsevec, '{16777217}'::integer[]::sparsevec;
SELECT '{1:1e-10,2:1}/2'::sparsevec::halfvec AS to_zero, '{1:1e-10,2:1}/2'::sparsevec::halfvec::sparsevec AS and_back,
       '[0,-0]'::vector::sparsevec::vector AS sign_of_zero;
-- There and back, where nothing is lost
SELECT bool_and(h::vector::halfvec = h AND h::sparsevec::halfvec = h AND h::real[]::halfvec = h) AS halves,
       bool_and(v::sparsevec::vector = v AND v::real[]::vector = v AND v::real[]::float8[]::vector = v
                AND v::real[]::sparsevec = v::sparsevec AND v::real[]::numeric[]::halfvec = v::real[]::halfvec) AS singles
  FROM (SELECT a::vector AS v, a::halfvec AS h
          FROM generate_series(1, 60) d,
               LATERAL (SELECT array_agg(CASE n % 3 WHEN 0 THEN 0 ELSE (n - 30) * 3 ^ (n % 9 - 4) END ORDER BY n) AS a
                          FROM generate_series(1, d) n) r) t;

-- Type modifiers: the number of dimensions is checked, whatever is cast.
SELECT '{1,2}'::integer[]::vector(2), '{1,2}'::real[]::halfvec(2), '{1,2}'::numeric[]::sparsevec(2), '[1,2]'::vector::halfvec(2),
       '[1,2]'::halfvec::vector(2), '[1,2]'::vector::sparsevec(2), '{}/2'::sparsevec::vector(2), '{}/2'::sparsevec::halfvec(2);
SELECT s, code, message FROM
    (SELECT row_number() OVER () AS n, format('%s::%s(3)', source, target) AS s
       FROM unnest(ARRAY['vector', 'halfvec', 'sparsevec']) target,
            unnest(ARRAY[$$'{1,2}'::integer[]$$, $$'{1,2}'::real[]$$, $$'{1,2}'::float8[]$$, $$'{1,2}'::numeric[]$$, $$'[1,2]'::vector$$,
                         $$'[1,2]'::halfvec$$, $$'{1:1}/2'::sparsevec$$]) source) u,
    outcome('SELECT ' || s) ORDER BY n;

-- Arrays that cannot be cast
SELECT source, target, code, message
  FROM unnest(ARRAY[$$'{}'::integer[]$$, $$'{}'::numeric[]$$, $$'{{1,2},{3,4}}'::real[]$$, $$'{{1}}'::float8[]$$, $$'{1,NULL}'::integer[]$$,
                    $$'{NULL}'::numeric[]$$, $$'{{NULL}}'::real[]$$, $$'{1,NaN}'::real[]$$, $$'{-Infinity}'::real[]$$, $$'{1,Infinity}'::float8[]$$,
                    $$'{NaN}'::numeric[]$$, $$'{Infinity}'::numeric[]$$, $$'{1e39}'::float8[]$$, $$'{1e-50}'::float8[]$$, $$'{1e39}'::numeric[]$$,
                    $$'{1e-50}'::numeric[]$$]) WITH ORDINALITY s (source, n),
       unnest(ARRAY['vector', 'halfvec', 'sparsevec']) WITH ORDINALITY t (target, m),
       outcome(format('SELECT %s::%s', source, target))
 ORDER BY n, m;

-- Out of the range of half: the message has the number as a single prints it.
SELECT source, code, message
  FROM unnest(ARRAY[$$'{65519}'::integer[]$$, $$'{65520}'::integer[]$$, $$'{-70000}'::integer[]$$, $$'{2000000}'::integer[]$$, $$'{123456789}'::integer[]$$,
                    $$'{1e5}'::real[]$$, $$'{65520.5}'::float8[]$$, $$'{70000.1}'::numeric[]$$, $$'[65520]'::vector$$, $$'[1,-3e38]'::vector$$,
                    $$'{1:1e6}/2'::sparsevec$$, $$'{2:-65520}/2'::sparsevec$$]) WITH ORDINALITY s (source, n),
       outcome(format('SELECT %s::halfvec', source))
 ORDER BY n;

-- Limits
SELECT target, code, message FROM unnest(ARRAY['vector', 'halfvec', 'sparsevec']) WITH ORDINALITY t (target, m),
       outcome(format('SELECT array_fill(1, ARRAY[16001])::%s', target)) ORDER BY m;
SELECT l2_norm(('{0}'::integer[] || array_fill(1, ARRAY[16000]))::sparsevec) = sqrt(16000) AS zeros_do_not_count,
       vector_dims('{1:1}/16000'::sparsevec::vector), vector_dims('{16000:1}/16000'::sparsevec::halfvec);
SELECT s, code, message FROM unnest(ARRAY[
    $$'{}/16001'::sparsevec::vector$$, $$'{}/16001'::sparsevec::halfvec$$, $$'{}/1000000000'::sparsevec::vector(3)$$,
    $$array_fill(0, ARRAY[16001])::sparsevec(3)$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;

-- Contexts. An argument of a function takes only implicit casts, a column also those of assignment.
CREATE FUNCTION takes_reals(real[]) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'reals ' || $1::text;
CREATE FUNCTION takes_vector(vector) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'vector ' || $1::text;
CREATE FUNCTION takes_half(halfvec) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'half ' || $1::text;
CREATE FUNCTION takes_sparse(sparsevec) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'sparse ' || $1::text;
CREATE TABLE targets (r real[], v vector(2), h halfvec(2), s sparsevec(2), d float8[], t text);
SELECT f, source, code, message FROM unnest(ARRAY['takes_reals', 'takes_vector', 'takes_half', 'takes_sparse']) WITH ORDINALITY f (f, n),
       unnest(ARRAY[$$'[1,2]'::vector$$, $$'[1,2]'::halfvec$$, $$'{1:1}/2'::sparsevec$$, 'ARRAY[1,2]', $$'[1,2]'::text$$])
       WITH ORDINALITY s (source, m),
       outcome(format('SELECT %s(%s)', f, source))
 ORDER BY n, m;
SELECT c, source, code, message FROM unnest(ARRAY['r', 'v', 'h', 's', 'd', 't']) WITH ORDINALITY c (c, n),
       unnest(ARRAY[$$'[1,2]'::vector$$, $$'[1,2]'::halfvec$$, $$'{1:1}/2'::sparsevec$$, 'ARRAY[1,2]', 'ARRAY[1.5,2]', $$'[1,2]'::text$$])
       WITH ORDINALITY s (source, m),
       outcome(format('INSERT INTO targets (%s) VALUES (%s)', c, source))
 ORDER BY n, m;
SELECT * FROM targets;

-- Two types in one place: the implicit casts say which wins.
SELECT pg_typeof('[1]'::vector <-> '[1]'::halfvec), '[3]'::vector <-> '[1]'::halfvec AS vector_half, '[3]'::halfvec <-> '{1:1}/1'::sparsevec AS half_sparse,
       '{1:1}/1'::sparsevec <-> '[3]'::vector AS sparse_vector, '[0.1]'::vector = '[0.1]'::halfvec AS equal_as_halves,
       '[0.1]'::vector = '[0.1]'::halfvec::vector AS equal_as_singles;
SELECT s, code, message FROM unnest(ARRAY[
    $$coalesce('[1]'::vector, ARRAY[1::real])$$, $$coalesce('[1]'::halfvec, ARRAY[1::real])$$, $$'[1]'::vector UNION SELECT '{}/1'::sparsevec$$,
    $$'[1]'::vector = ARRAY[1::real]$$, $$'[1]'::vector <-> ARRAY[1::real]$$, $$'[1]'::vector || ARRAY[1::real]$$, $$'[1]'::vector || 'x'::text$$,
    $$('[1,2]'::vector)[1]$$, $$unnest('[1,2]'::vector)$$, $$'[1]'::vector::integer[]$$, $$'[1]'::vector::float8[]$$, $$'[1]'::vector::numeric[]$$,
    $$'[1]'::halfvec::float8[]$$, $$'{}/1'::sparsevec::real[]$$, $$'{1}'::smallint[]::vector$$, $$'{1}'::bigint[]::vector$$, $$'{1}'::text[]::vector$$,
    $$'[1]'::vector::text$$, $$'[1]'::text::vector$$, $$1::vector$$])
    WITH ORDINALITY u (s, n), outcome('SELECT ' || s) ORDER BY n;
SELECT pg_typeof(coalesce('[1]'::vector, '[1]'::halfvec)), pg_typeof(coalesce('[1]'::halfvec, '{}/1'::sparsevec)),
       pg_typeof(ARRAY['{}/1'::sparsevec, '[1]'::vector]), pg_typeof(CASE WHEN true THEN '[1]'::halfvec ELSE '[1]'::vector END);

-- The functions behind the casts, called by name
SELECT array_to_vector(ARRAY[1, 2], 2, true), array_to_halfvec(ARRAY[1.5], -1, false), array_to_sparsevec(ARRAY[0.5::float8, 0], 2, true),
       vector_to_float4('[1]', 7, true), halfvec_to_float4('[1]', 7, true), vector_to_halfvec('[1]', -1, true), halfvec_to_vector('[1]', 1, true);
SELECT vector('[1,2]'::vector, 2, true), halfvec('[1,2]'::halfvec, -1, true), sparsevec('{}/2'::sparsevec, 2, false),
       vector_to_sparsevec('[1,0]', 2, true), sparsevec_to_vector('{1:1}/2', 2, true), halfvec_to_sparsevec('[1,0]', 2, true),
       sparsevec_to_halfvec('{1:1}/2', 2, true);
SELECT code, message FROM outcome($$SELECT vector('[1,2]'::vector, 3, true)$$);

DROP FUNCTION takes_reals, takes_vector, takes_half, takes_sparse;
DROP TABLE targets;
