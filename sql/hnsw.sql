-- The index access method hnsw: names of the access method and of its operator classes as in pgvector 0.8.

CREATE FUNCTION hnsw_handler(internal) RETURNS index_am_handler
    LANGUAGE c AS 'MODULE_PATHNAME', 'hnsw_handler_wrapper';
COMMENT ON FUNCTION hnsw_handler(internal) IS 'handler of the access method hnsw';

CREATE ACCESS METHOD hnsw TYPE INDEX HANDLER hnsw_handler;
COMMENT ON ACCESS METHOD hnsw IS 'approximate nearest neighbours from a navigable graph';

-- An operator class per type and distance, none of them the default of its type. Its second support function says which
-- type and distance they are; it answers the access method only.

DO $stamp$
DECLARE
    every constant text[] := '{vector,halfvec,sparsevec}';
    type text;
    c record;
BEGIN
    FOR c IN VALUES
        -- types, distance, operator, function, comment
        (every, 'l2', '<->', '{type}_l2_squared_distance', 'Euclidean distance'),
        (every, 'ip', '<#>', '{type}_negative_inner_product', 'negative inner product'),
        (every, 'cosine', '<=>', 'cosine_distance', 'cosine distance'),
        (every, 'l1', '<+>', 'l1_distance', 'taxicab distance'),
        ('{bit}', 'hamming', '<~>', 'hamming_distance', 'Hamming distance'),
        ('{bit}', 'jaccard', '<%>', 'jaccard_distance', 'Jaccard distance')
    LOOP
        FOREACH type IN ARRAY c.column1::text[] LOOP
            EXECUTE replace(
                format(
                    $sql$
                        CREATE FUNCTION hnsw_{type}_%1$s_support(internal) RETURNS internal
                            LANGUAGE c IMMUTABLE PARALLEL SAFE
                            AS 'MODULE_PATHNAME', 'hnsw_{type}_%1$s_support_wrapper';
                        COMMENT ON FUNCTION hnsw_{type}_%1$s_support(internal)
                            IS 'tells the access method hnsw what {type}_%1$s_ops is for';

                        CREATE OPERATOR FAMILY {type}_%1$s_ops USING hnsw;
                        COMMENT ON OPERATOR FAMILY {type}_%1$s_ops USING hnsw IS %5$L;

                        CREATE OPERATOR CLASS {type}_%1$s_ops FOR TYPE {type} USING hnsw FAMILY {type}_%1$s_ops AS
                            OPERATOR 1 %2$s ({type}, {type}) FOR ORDER BY float_ops,
                            FUNCTION 1 %3$s({type}, {type}),
                            FUNCTION 2 hnsw_{type}_%1$s_support(internal);
                        COMMENT ON OPERATOR CLASS {type}_%1$s_ops USING hnsw IS %4$L
                    $sql$,
                    c.column2, c.column3, c.column4, '{type} by ' || c.column5, 'order of {type} by ' || c.column5),
                '{type}', type);
        END LOOP;
    END LOOP;
END
$stamp$;

CREATE FUNCTION hnsw_check(index regclass, OUT finding text) RETURNS SETOF text
    LANGUAGE c STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hnsw_check_wrapper';
COMMENT ON FUNCTION hnsw_check(regclass) IS
    'what is wrong with an hnsw index: every invariant of its pages is checked; no row if nothing is wrong';

CREATE FUNCTION hnsw_index_info(index regclass) RETURNS jsonb
    LANGUAGE c STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hnsw_index_info_wrapper';
COMMENT ON FUNCTION hnsw_index_info(regclass) IS
    'what an hnsw index is and holds: parameters, rows, nodes, the shares that are dead and that can be reached';

CREATE FUNCTION hnsw_recall(index regclass, samples integer DEFAULT 100, k integer DEFAULT 10) RETURNS double precision
    LANGUAGE plpgsql STRICT PARALLEL UNSAFE
    -- What the body sets is put back when it ends.
    SET enable_seqscan = on SET enable_indexscan = on SET enable_bitmapscan = on SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    value text;
    source text;
    operator text;
    nearest text;
    query text;
    approximate double precision[];
    exact double precision[];
    found bigint := 0;
    wanted bigint := 0;
BEGIN
    IF samples < 1 OR k < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'samples and k must be at least 1';
    END IF;
    -- The vector is the column whose operator class orders.
    SELECT format('%s WHERE (%s) IS NOT NULL%s', i.indrelid::regclass, pg_get_indexdef(index, k.number::integer, true),
                  ' AND (' || pg_get_expr(i.indpred, i.indrelid, true) || ')'),
           format('OPERATOR(%I.%s)', n.nspname, o.oprname),
           pg_get_indexdef(index, k.number::integer, true)
      INTO source, operator, value
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_am a ON a.oid = c.relam AND a.amname = 'hnsw'
     CROSS JOIN LATERAL unnest(i.indclass) WITH ORDINALITY AS k (class, number)
      JOIN pg_opclass p ON p.oid = k.class
      JOIN pg_amop m ON m.amopfamily = p.opcfamily AND m.amoplefttype = p.opcintype AND m.amoppurpose = 'o'
      JOIN pg_operator o ON o.oid = m.amopopr
      JOIN pg_namespace n ON n.oid = o.oprnamespace
     WHERE i.indexrelid = index;
    IF source IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('"%s" is not an hnsw index', index);
    END IF;
    FOR query IN EXECUTE format('SELECT (%s)::text FROM %s ORDER BY random() LIMIT %s', value, source, samples) LOOP
        nearest := format('SELECT array_agg(distance) FROM (SELECT (%1$s) %2$s %3$L AS distance FROM %4$s '
                          'ORDER BY (%1$s) %2$s %3$L LIMIT %5$s) AS rows', value, operator, query, source, k);
        PERFORM set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
                set_config('enable_indexscan', 'on', true);
        EXECUTE nearest INTO approximate;
        PERFORM set_config('enable_seqscan', 'on', true), set_config('enable_indexscan', 'off', true);
        EXECUTE nearest INTO exact;
        wanted := wanted + cardinality(exact);
        found := found + (SELECT count(*) FROM unnest(approximate) AS distance
                           WHERE distance <= (SELECT max(each) FROM unnest(exact) AS each));
    END LOOP;
    RETURN CASE WHEN wanted > 0 THEN found::double precision / wanted END;
END
$body$;
COMMENT ON FUNCTION hnsw_recall(regclass, integer, integer) IS
    'the share of the k nearest rows that searches of an hnsw index find, measured with rows of its table as queries';
