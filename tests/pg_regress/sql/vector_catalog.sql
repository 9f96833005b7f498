-- What the catalogue says of the types vector, halfvec and sparsevec: that which clients and pg_dump of pgvector rely on.
-- Only objects of pgvector are listed; further ones of the extension do not matter here. Index access methods have their own file.

-- Types
SELECT typname, typlen, typbyval, typtype, typcategory, typispreferred, typdelim, typinput, typoutput, typreceive, typsend, typmodin, typmodout,
       typanalyze, typalign, typstorage, typelem::regtype, typarray::regtype, typnotnull, typcollation
  FROM pg_type WHERE typname IN ('vector', 'halfvec', 'sparsevec') ORDER BY typname COLLATE "C" \gx

-- Functions. {t} stands for each of the three types, {n} for the types vector and halfvec.
CREATE TEMPORARY TABLE signatures AS
SELECT DISTINCT replace(replace(signature, '{t}', t), '{n}', t) AS signature
  FROM unnest(ARRAY['vector', 'halfvec', 'sparsevec']) t,
       unnest(ARRAY['{t}_in(cstring,oid,integer)', '{t}_out({t})', '{t}_typmod_in(cstring[])', '{t}_recv(internal,oid,integer)', '{t}_send({t})',
                    'l2_distance({t},{t})', 'inner_product({t},{t})', 'cosine_distance({t},{t})', 'l1_distance({t},{t})', 'l2_normalize({t})',
                    '{t}_lt({t},{t})', '{t}_le({t},{t})', '{t}_eq({t},{t})', '{t}_ne({t},{t})', '{t}_ge({t},{t})', '{t}_gt({t},{t})', '{t}_cmp({t},{t})',
                    '{t}_l2_squared_distance({t},{t})', '{t}_negative_inner_product({t},{t})', '{t}({t},integer,boolean)',
                    'array_to_{t}(integer[],integer,boolean)', 'array_to_{t}(real[],integer,boolean)',
                    'array_to_{t}(double precision[],integer,boolean)', 'array_to_{t}(numeric[],integer,boolean)',
                    'vector_dims({n})', 'binary_quantize({n})', 'subvector({n},integer,integer)', '{n}_add({n},{n})', '{n}_sub({n},{n})',
                    '{n}_mul({n},{n})', '{n}_concat({n},{n})', '{n}_spherical_distance({n},{n})', '{n}_accum(double precision[],{n})',
                    '{n}_avg(double precision[])', '{n}_combine(double precision[],double precision[])', '{n}_to_float4({n},integer,boolean)',
                    'avg({n})', 'sum({n})',
                    'vector_norm(vector)', 'l2_norm(halfvec)', 'l2_norm(sparsevec)', 'vector_to_halfvec(vector,integer,boolean)',
                    'halfvec_to_vector(halfvec,integer,boolean)', 'vector_to_sparsevec(vector,integer,boolean)',
                    'sparsevec_to_vector(sparsevec,integer,boolean)', 'halfvec_to_sparsevec(halfvec,integer,boolean)',
                    'sparsevec_to_halfvec(sparsevec,integer,boolean)', 'hamming_distance(bit,bit)', 'jaccard_distance(bit,bit)']) signature
 WHERE NOT (t = 'sparsevec' AND signature ~ '\{n\}');
SELECT signature, p.prorettype::regtype AS result, p.prokind AS kind, p.provolatile AS volatile, p.proisstrict AS strict, p.proparallel AS parallel,
       p.proretset AS set, p.prosecdef AS definer, p.pronargdefaults AS defaults, p.provariadic <> 0 AS variadic
  FROM signatures LEFT JOIN pg_proc p ON p.oid = to_regprocedure(signature)
 ORDER BY signature COLLATE "C";
-- A further function of the same name could make calls ambiguous that are not so with pgvector.
SELECT p.oid::regprocedure AS further
  FROM pg_proc p
 WHERE p.proname IN (SELECT split_part(signature, '(', 1) FROM signatures)
   AND p.pronamespace = (SELECT pronamespace FROM pg_proc WHERE oid = to_regprocedure('vector_in(cstring,oid,integer)'))
   AND p.oid NOT IN (SELECT to_regprocedure(signature) FROM signatures WHERE to_regprocedure(signature) IS NOT NULL)
 ORDER BY 1;

-- Aggregates
SELECT aggfnoid::regprocedure, aggkind, aggnumdirectargs, aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn, aggmtransfn,
       aggfinalextra, aggfinalmodify, aggsortop, aggtranstype::regtype, aggtransspace, agginitval
  FROM pg_aggregate JOIN signatures ON aggfnoid = to_regprocedure(signature)
 ORDER BY signature COLLATE "C" \gx

-- Operators
CREATE TEMPORARY TABLE signs AS
SELECT format('%s(%s,%s)', sign, t, t) AS operator
  FROM unnest(ARRAY['vector', 'halfvec', 'sparsevec']) t, unnest(ARRAY['<->', '<#>', '<=>', '<+>', '<', '<=', '=', '<>', '>=', '>', '+', '-', '*', '||']) sign
 WHERE NOT (t = 'sparsevec' AND sign IN ('+', '-', '*', '||'))
UNION SELECT unnest(ARRAY['<~>(bit,bit)', '<%>(bit,bit)']);
SELECT operator, oprcode::regprocedure AS function, oprresult::regtype AS result, nullif(oprcom, 0)::regoperator AS commutator,
       nullif(oprnegate, 0)::regoperator AS negator, oprrest AS restrict, oprjoin AS join, oprcanmerge AS merges, oprcanhash AS hashes
  FROM signs LEFT JOIN pg_operator o ON o.oid = to_regoperator(operator)
 ORDER BY operator COLLATE "C";
-- No further operator of these signs takes one of the types.
SELECT o.oid::regoperator AS further
  FROM pg_operator o
 WHERE o.oprname IN (SELECT split_part(operator, '(', 1) FROM signs)
   AND o.oid NOT IN (SELECT to_regoperator(operator) FROM signs WHERE to_regoperator(operator) IS NOT NULL)
   AND (o.oprleft IN ('vector'::regtype, 'halfvec'::regtype, 'sparsevec'::regtype)
        OR o.oprright IN ('vector'::regtype, 'halfvec'::regtype, 'sparsevec'::regtype)
        OR (o.oprleft = 'bit'::regtype AND o.oprname LIKE '<_>' AND o.oprnamespace <> 'pg_catalog'::regnamespace))
 ORDER BY 1;

-- Operator classes for B-trees: the default of their type, which are also what ORDER BY and DISTINCT use
SELECT c.opcname, c.opcintype::regtype, c.opcdefault, c.opckeytype, f.opfname
  FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod JOIN pg_opfamily f ON f.oid = c.opcfamily
 WHERE m.amname = 'btree' AND c.opcintype IN ('vector'::regtype, 'halfvec'::regtype, 'sparsevec'::regtype)
 ORDER BY c.opcname COLLATE "C";
SELECT c.opcname, a.amopstrategy AS strategy, a.amopopr::regoperator AS operator, a.amoppurpose AS purpose
  FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod JOIN pg_amop a ON a.amopfamily = c.opcfamily
 WHERE m.amname = 'btree' AND c.opcintype IN ('vector'::regtype, 'halfvec'::regtype, 'sparsevec'::regtype)
 ORDER BY c.opcname COLLATE "C", a.amopstrategy;
SELECT c.opcname, p.amprocnum AS number, p.amproc::regprocedure AS function
  FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod JOIN pg_amproc p ON p.amprocfamily = c.opcfamily
 WHERE m.amname = 'btree' AND c.opcintype IN ('vector'::regtype, 'halfvec'::regtype, 'sparsevec'::regtype)
 ORDER BY c.opcname COLLATE "C", p.amprocnum;

-- Everything may be used by everyone.
SELECT count(*) AS functions, count(*) FILTER (WHERE has_function_privilege('public', to_regprocedure(signature), 'EXECUTE')) AS for_everyone
  FROM signatures;
SELECT typname, has_type_privilege('public', oid, 'USAGE') AS for_everyone FROM pg_type WHERE typname IN ('vector', 'halfvec', 'sparsevec')
 ORDER BY typname COLLATE "C";
DROP TABLE signatures, signs;
