-- The types vector(n), halfvec(n) and sparsevec(n), and distances of bit: text and binary format, casts, operators,
-- aggregates and on-disk format of pgvector 0.8.
--
-- Most is the same for every type, so it is written once and stamped out: {type} stands for the name of each type that a
-- row is for ("every", or "dense": without sparsevec). The C symbol of a function ends in _wrapper.

CREATE TYPE vector;
CREATE TYPE halfvec;
CREATE TYPE sparsevec;

-- The functions that the types are made of

DO $stamp$
DECLARE
    type text;
BEGIN
    FOREACH type IN ARRAY ARRAY['vector', 'halfvec', 'sparsevec'] LOOP
        EXECUTE replace($sql$
            CREATE FUNCTION {type}_in(cstring, oid, integer) RETURNS {type}
                LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '{type}_in_wrapper';
            COMMENT ON FUNCTION {type}_in(cstring, oid, integer) IS 'I/O';

            CREATE FUNCTION {type}_out({type}) RETURNS cstring
                LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '{type}_out_wrapper';
            COMMENT ON FUNCTION {type}_out({type}) IS 'I/O';

            CREATE FUNCTION {type}_typmod_in(cstring[]) RETURNS integer
                LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '{type}_typmod_in_wrapper';
            COMMENT ON FUNCTION {type}_typmod_in(cstring[]) IS 'I/O typmod';

            CREATE FUNCTION {type}_recv(internal, oid, integer) RETURNS {type}
                LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '{type}_recv_wrapper';
            COMMENT ON FUNCTION {type}_recv(internal, oid, integer) IS 'I/O';

            CREATE FUNCTION {type}_send({type}) RETURNS bytea
                LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '{type}_send_wrapper';
            COMMENT ON FUNCTION {type}_send({type}) IS 'I/O';

            -- External storage: numbers that look random do not compress.
            CREATE TYPE {type} (
                INPUT = {type}_in,
                OUTPUT = {type}_out,
                TYPMOD_IN = {type}_typmod_in,
                RECEIVE = {type}_recv,
                SEND = {type}_send,
                ALIGNMENT = int4,
                STORAGE = external
            );
        $sql$, '{type}', type);
    END LOOP;
END
$stamp$;

COMMENT ON TYPE vector IS 'vector of single-precision numbers; vector(n) takes n dimensions';
COMMENT ON TYPE halfvec IS 'vector of half-precision numbers; halfvec(n) takes n dimensions';
COMMENT ON TYPE sparsevec IS 'vector of single-precision numbers of which few are not zero; sparsevec(n) takes n dimensions';

-- All other functions. The cost of a distance is that of some hundred dimensions, against 1 for a comparison of integers.

DO $stamp$
DECLARE
    dense constant text[] := '{vector,halfvec}';
    every constant text[] := '{vector,halfvec,sparsevec}';
    type text;
    f record;
BEGIN
    FOR f IN VALUES
        -- types, name, arguments, result, C symbol, cost, comment
        (every, '{type}', '{type}, integer, boolean', '{type}', '{type}_to_{type}', 1,
            'checks the number of dimensions against {type}(n)'),
        (every, 'array_to_{type}', 'integer[], integer, boolean', '{type}', 'array_to_{type}', 1,
            'converts an array of numbers to {type}'),
        (every, 'array_to_{type}', 'real[], integer, boolean', '{type}', 'array_to_{type}', 1,
            'converts an array of numbers to {type}'),
        (every, 'array_to_{type}', 'double precision[], integer, boolean', '{type}', 'array_to_{type}', 1,
            'converts an array of numbers to {type}'),
        (every, 'array_to_{type}', 'numeric[], integer, boolean', '{type}', 'array_to_{type}', 1,
            'converts an array of numbers to {type}'),
        (dense, 'jsonb_to_{type}', 'jsonb, integer, boolean', '{type}', 'jsonb_to_{type}', 1,
            'converts a JSON array of numbers to {type}'),
        (dense, '{type}_to_float4', '{type}, integer, boolean', 'real[]', '{type}_to_float4', 1,
            'converts {type} to an array of numbers'),
        (dense, '{type}_to_sparsevec', '{type}, integer, boolean', 'sparsevec', '{type}_to_sparsevec', 1,
            'converts {type} to sparsevec'),
        (dense, 'sparsevec_to_{type}', 'sparsevec, integer, boolean', '{type}', 'sparsevec_to_{type}', 1,
            'converts sparsevec to {type}'),
        ('{halfvec}', 'halfvec_to_vector', 'halfvec, integer, boolean', 'vector', 'halfvec_to_vector', 1,
            'converts halfvec to vector'),
        ('{vector}', 'vector_to_halfvec', 'vector, integer, boolean', 'halfvec', 'vector_to_halfvec', 1,
            'converts vector to halfvec'),

        (every, 'l2_distance', '{type}, {type}', 'double precision', '{type}_l2_distance', 10, 'Euclidean distance'),
        (every, '{type}_l2_squared_distance', '{type}, {type}', 'double precision', '{type}_l2_squared_distance', 10,
            'square of the Euclidean distance'),
        (every, 'inner_product', '{type}, {type}', 'double precision', '{type}_inner_product', 10, 'inner product'),
        (every, '{type}_negative_inner_product', '{type}, {type}', 'double precision',
            '{type}_negative_inner_product', 10,
            'inner product with the sign changed, so that the most similar comes first'),
        (every, 'cosine_distance', '{type}, {type}', 'double precision', '{type}_cosine_distance', 10,
            'cosine distance: 0 for the same direction, 2 for the opposite, NaN for a zero vector'),
        (every, 'l1_distance', '{type}, {type}', 'double precision', '{type}_l1_distance', 10, 'taxicab distance'),
        (dense, '{type}_spherical_distance', '{type}, {type}', 'double precision', '{type}_spherical_distance', 10,
            'angle between two vectors of norm 1, as a share of pi'),
        ('{bit}', 'hamming_distance', 'bit, bit', 'double precision', 'hamming_distance', 10, 'number of bits that differ'),
        ('{bit}', 'jaccard_distance', 'bit, bit', 'double precision', 'jaccard_distance', 10,
            'one minus the share of common bits in the bits that either has'),
        (dense, 'max_sim', '{type}[], {type}[]', 'double precision', '{type}_max_sim', 1000,
            'late interaction: for each vector of the first array its largest inner product with one of the second, added'),

        (dense, 'vector_dims', '{type}', 'integer', '{type}_dims', 1, 'number of dimensions'),
        ('{vector}', 'vector_norm', 'vector', 'double precision', 'vector_norm', 10, 'Euclidean norm'),
        ('{halfvec,sparsevec}', 'l2_norm', '{type}', 'double precision', '{type}_norm', 10, 'Euclidean norm'),
        (every, 'l2_normalize', '{type}', '{type}', '{type}_l2_normalize', 10,
            'vector of the same direction and Euclidean norm 1; a zero vector stays as it is'),
        (dense, 'binary_quantize', '{type}', 'bit', '{type}_binary_quantize', 10,
            'a bit per dimension: 1 where the element is greater than 0'),
        (dense, 'subvector', '{type}, integer, integer', '{type}', '{type}_subvector', 1,
            'elements from a position (the first is 1), as many as the third argument says'),

        (dense, '{type}_add', '{type}, {type}', '{type}', '{type}_add', 10, 'implementation of the operator +'),
        (dense, '{type}_sub', '{type}, {type}', '{type}', '{type}_sub', 10, 'implementation of the operator -'),
        (dense, '{type}_mul', '{type}, {type}', '{type}', '{type}_mul', 10, 'implementation of the operator *'),
        (dense, '{type}_concat', '{type}, {type}', '{type}', '{type}_concat', 1, 'implementation of the operator ||'),

        (every, '{type}_lt', '{type}, {type}', 'boolean', '{type}_lt', 1, 'implementation of the operator <'),
        (every, '{type}_le', '{type}, {type}', 'boolean', '{type}_le', 1, 'implementation of the operator <='),
        (every, '{type}_eq', '{type}, {type}', 'boolean', '{type}_eq', 1, 'implementation of the operator ='),
        (every, '{type}_ne', '{type}, {type}', 'boolean', '{type}_ne', 1, 'implementation of the operator <>'),
        (every, '{type}_ge', '{type}, {type}', 'boolean', '{type}_ge', 1, 'implementation of the operator >='),
        (every, '{type}_gt', '{type}, {type}', 'boolean', '{type}_gt', 1, 'implementation of the operator >'),
        (every, '{type}_cmp', '{type}, {type}', 'integer', '{type}_cmp', 1, 'less, equal or greater: -1, 0 or 1'),

        (dense, '{type}_accum', 'double precision[], {type}', 'double precision[]', '{type}_accum', 10,
            'aggregate transition: adds a row'),
        (dense, '{type}_combine', 'double precision[], double precision[]', 'double precision[]', '{type}_combine', 10,
            'aggregate combination: adds what another worker has'),
        (dense, '{type}_avg', 'double precision[]', '{type}', '{type}_avg', 10, 'aggregate final: the mean'),
        (dense, '{type}_window_add', 'double precision[], {type}', 'double precision[]', '{type}_window_add', 10,
            'moving-aggregate transition: adds a row'),
        (dense, '{type}_window_remove', 'double precision[], {type}', 'double precision[]', '{type}_window_remove', 10,
            'moving-aggregate inverse: takes a row out'),
        (dense, '{type}_window_avg', 'double precision[]', '{type}', '{type}_window_avg', 10,
            'moving-aggregate final: the mean'),
        (dense, '{type}_window_sum', 'double precision[]', '{type}', '{type}_window_sum', 10,
            'moving-aggregate final: the sum')
    LOOP
        FOREACH type IN ARRAY f.column1::text[] LOOP
            EXECUTE replace(
                format(
                    $sql$
                        CREATE FUNCTION %1$s(%2$s) RETURNS %3$s LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST %4$s
                            AS 'MODULE_PATHNAME', '%5$s_wrapper';
                        COMMENT ON FUNCTION %1$s(%2$s) IS %6$L
                    $sql$,
                    f.column2, f.column3, f.column4, f.column6, f.column5, f.column7),
                '{type}', type);
        END LOOP;
    END LOOP;
END
$stamp$;

-- Casts

DO $stamp$
DECLARE
    c record;
BEGIN
    FOR c IN VALUES
        -- source, target, function, context, comment
        ('vector', 'vector', 'vector', 'IMPLICIT', 'checks the number of dimensions'),
        ('halfvec', 'halfvec', 'halfvec', 'IMPLICIT', 'checks the number of dimensions'),
        ('sparsevec', 'sparsevec', 'sparsevec', 'IMPLICIT', 'checks the number of dimensions'),
        ('vector', 'real[]', 'vector_to_float4', 'IMPLICIT', 'the elements'),
        ('halfvec', 'real[]', 'halfvec_to_float4', 'ASSIGNMENT', 'the elements'),
        ('vector', 'halfvec', 'vector_to_halfvec', 'IMPLICIT', 'the elements, rounded'),
        ('halfvec', 'vector', 'halfvec_to_vector', 'ASSIGNMENT', 'the elements'),
        ('vector', 'sparsevec', 'vector_to_sparsevec', 'IMPLICIT', 'the elements that are not zero'),
        ('halfvec', 'sparsevec', 'halfvec_to_sparsevec', 'IMPLICIT', 'the elements that are not zero'),
        ('sparsevec', 'vector', 'sparsevec_to_vector', 'ASSIGNMENT', 'all elements'),
        ('sparsevec', 'halfvec', 'sparsevec_to_halfvec', 'ASSIGNMENT', 'all elements, rounded'),
        ('jsonb', 'vector', 'jsonb_to_vector', 'ASSIGNMENT', 'a vector of the elements of a JSON array'),
        ('jsonb', 'halfvec', 'jsonb_to_halfvec', 'ASSIGNMENT', 'a vector of the elements of a JSON array')
    LOOP
        EXECUTE format(
            $sql$
                CREATE CAST (%1$s AS %2$s) WITH FUNCTION %3$s(%1$s, integer, boolean) AS %4$s;
                COMMENT ON CAST (%1$s AS %2$s) IS %5$L
            $sql$,
            c.column1, c.column2, c.column3, c.column4, c.column5);
    END LOOP;

    FOR c IN
        SELECT source, target FROM unnest('{integer[],real[],double precision[],numeric[]}'::text[]) source,
                                   unnest('{vector,halfvec,sparsevec}'::text[]) target
    LOOP
        EXECUTE format(
            $sql$
                CREATE CAST (%1$s AS %2$s) WITH FUNCTION array_to_%2$s(%1$s, integer, boolean) AS ASSIGNMENT;
                COMMENT ON CAST (%1$s AS %2$s) IS 'a vector of the elements'
            $sql$,
            c.source, c.target);
    END LOOP;
END
$stamp$;

-- Operators

DO $stamp$
DECLARE
    dense constant text[] := '{vector,halfvec}';
    every constant text[] := '{vector,halfvec,sparsevec}';
    type text;
    o record;
BEGIN
    FOR o IN VALUES
        -- types, name, function, commutator and so on, comment
        (every, '<->', 'l2_distance', 'COMMUTATOR = <->', 'Euclidean distance'),
        (every, '<#>', '{type}_negative_inner_product', 'COMMUTATOR = <#>', 'negative inner product'),
        (every, '<=>', 'cosine_distance', 'COMMUTATOR = <=>', 'cosine distance'),
        (every, '<+>', 'l1_distance', 'COMMUTATOR = <+>', 'taxicab distance'),
        ('{bit}', '<~>', 'hamming_distance', 'COMMUTATOR = <~>', 'Hamming distance'),
        ('{bit}', '<%>', 'jaccard_distance', 'COMMUTATOR = <%>', 'Jaccard distance'),
        (dense, '+', '{type}_add', 'COMMUTATOR = +', 'add element by element'),
        (dense, '-', '{type}_sub', NULL, 'subtract element by element'),
        (dense, '*', '{type}_mul', 'COMMUTATOR = *', 'multiply element by element'),
        (dense, '||', '{type}_concat', NULL, 'concatenate'),
        (every, '<', '{type}_lt',
            'COMMUTATOR = >, NEGATOR = >=, RESTRICT = scalarltsel, JOIN = scalarltjoinsel', 'less than'),
        (every, '<=', '{type}_le',
            'COMMUTATOR = >=, NEGATOR = >, RESTRICT = scalarlesel, JOIN = scalarlejoinsel', 'less than or equal'),
        (every, '=', '{type}_eq', 'COMMUTATOR = =, NEGATOR = <>, RESTRICT = eqsel, JOIN = eqjoinsel', 'equal'),
        (every, '<>', '{type}_ne', 'COMMUTATOR = <>, NEGATOR = =, RESTRICT = neqsel, JOIN = neqjoinsel', 'not equal'),
        (every, '>=', '{type}_ge',
            'COMMUTATOR = <=, NEGATOR = <, RESTRICT = scalargesel, JOIN = scalargejoinsel', 'greater than or equal'),
        (every, '>', '{type}_gt',
            'COMMUTATOR = <, NEGATOR = <=, RESTRICT = scalargtsel, JOIN = scalargtjoinsel', 'greater than')
    LOOP
        FOREACH type IN ARRAY o.column1::text[] LOOP
            EXECUTE replace(
                format(
                    $sql$
                        CREATE OPERATOR %1$s (LEFTARG = {type}, RIGHTARG = {type}, FUNCTION = %2$s%3$s);
                        COMMENT ON OPERATOR %1$s ({type}, {type}) IS %4$L
                    $sql$,
                    o.column2, o.column3, ', ' || o.column4, o.column5),
                '{type}', type);
        END LOOP;
    END LOOP;

    FOREACH type IN ARRAY every LOOP
        EXECUTE replace($sql$
            CREATE OPERATOR FAMILY {type}_ops USING btree;
            COMMENT ON OPERATOR FAMILY {type}_ops USING btree IS 'order of {type}';

            CREATE OPERATOR CLASS {type}_ops DEFAULT FOR TYPE {type} USING btree FAMILY {type}_ops AS
                OPERATOR 1 <,
                OPERATOR 2 <=,
                OPERATOR 3 =,
                OPERATOR 4 >=,
                OPERATOR 5 >,
                FUNCTION 1 {type}_cmp({type}, {type});
            COMMENT ON OPERATOR CLASS {type}_ops USING btree IS 'element by element, then the shorter first';
        $sql$, '{type}', type);
    END LOOP;
END
$stamp$;

-- Aggregates. Over a moving window they take rows out again, unless that would not be exact.

DO $stamp$
DECLARE
    type text;
BEGIN
    FOREACH type IN ARRAY ARRAY['vector', 'halfvec'] LOOP
        EXECUTE replace($sql$
            CREATE AGGREGATE avg({type}) (
                SFUNC = {type}_accum,
                STYPE = double precision[],
                FINALFUNC = {type}_avg,
                COMBINEFUNC = {type}_combine,
                INITCOND = '{0}',
                MSFUNC = {type}_window_add,
                MINVFUNC = {type}_window_remove,
                MSTYPE = double precision[],
                MFINALFUNC = {type}_window_avg,
                MINITCOND = '{0}',
                PARALLEL = SAFE
            );
            COMMENT ON AGGREGATE avg({type}) IS 'mean of each dimension';

            CREATE AGGREGATE sum({type}) (
                SFUNC = {type}_add,
                STYPE = {type},
                COMBINEFUNC = {type}_add,
                MSFUNC = {type}_window_add,
                MINVFUNC = {type}_window_remove,
                MSTYPE = double precision[],
                MFINALFUNC = {type}_window_sum,
                MINITCOND = '{0}',
                PARALLEL = SAFE
            );
            COMMENT ON AGGREGATE sum({type}) IS 'sum of each dimension';
        $sql$, '{type}', type);
    END LOOP;
END
$stamp$;
