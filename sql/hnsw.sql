-- The index access method hnsw: names and syntax of pgvector's. None of its operator classes is a default, as there.

CREATE FUNCTION hnswhandler(internal) RETURNS index_am_handler
    LANGUAGE c AS 'MODULE_PATHNAME', 'hnswhandler_wrapper';
COMMENT ON FUNCTION hnswhandler(internal) IS 'hnsw index access method handler';

CREATE ACCESS METHOD hnsw TYPE INDEX HANDLER hnswhandler;
COMMENT ON ACCESS METHOD hnsw IS 'approximate nearest neighbours by a graph (HNSW)';

DO $stamp$
DECLARE
    class record;
BEGIN
    FOR class IN
        SELECT type || '_' || metric || '_ops' AS name, type, metric, operator, replace(distance, '{type}', type) AS distance,
               description
          FROM (VALUES ('vector'), ('halfvec'), ('sparsevec')) AS types (type),
               (VALUES
                   ('l2', '<->', '{type}_l2_squared_distance', 'Euclidean distance'),
                   ('ip', '<#>', '{type}_negative_inner_product', 'inner product'),
                   ('cosine', '<=>', 'cosine_distance', 'cosine distance'),
                   ('l1', '<+>', 'l1_distance', 'taxicab distance')
               ) AS metrics (metric, operator, distance, description)
        UNION ALL
        VALUES
            ('bit_hamming_ops', 'bit', 'hamming', '<~>', 'hamming_distance', 'Hamming distance'),
            ('bit_jaccard_ops', 'bit', 'jaccard', '<%>', 'jaccard_distance', 'Jaccard distance')
    LOOP
        EXECUTE format($sql$
            CREATE FUNCTION hnsw_%2$s_%3$s_support(internal) RETURNS internal
                LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hnsw_%2$s_%3$s_support_wrapper';
            COMMENT ON FUNCTION hnsw_%2$s_%3$s_support(internal) IS 'names type and metric of an hnsw operator class';

            CREATE OPERATOR CLASS %1$s FOR TYPE %2$s USING hnsw AS
                OPERATOR 1 %4$s (%2$s, %2$s) FOR ORDER BY float_ops,
                FUNCTION 1 %5$s (%2$s, %2$s),
                FUNCTION 2 hnsw_%2$s_%3$s_support(internal);
            COMMENT ON OPERATOR CLASS %1$s USING hnsw IS %6$L;
        $sql$, class.name, class.type, class.metric, class.operator, class.distance,
            'nearest first by ' || class.description);
    END LOOP;
END
$stamp$;

CREATE FUNCTION hnsw_check(index regclass) RETURNS SETOF text
    LANGUAGE c STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hnsw_check_wrapper';
COMMENT ON FUNCTION hnsw_check(regclass) IS
    'what is wrong with an hnsw index: every invariant of its pages is checked; no row if nothing is wrong';

CREATE FUNCTION hnsw_index_info(index regclass) RETURNS jsonb
    LANGUAGE c STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hnsw_index_info_wrapper';
COMMENT ON FUNCTION hnsw_index_info(regclass) IS
    'what an hnsw index is and holds: parameters, rows, nodes, the shares that are dead and that can be reached';
