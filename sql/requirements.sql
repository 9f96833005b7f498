-- What pg_rag needs of the database it is created in. Runs first.

DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'feature_not_supported',
            MESSAGE = format('pg_rag cannot be created in a database with encoding "%s"', pg_catalog.getdatabaseencoding()),
            HINT = 'Create a database with ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector') THEN
        RAISE EXCEPTION USING
            ERRCODE = 'duplicate_object',
            MESSAGE = 'pg_rag cannot be created beside the extension "vector"',
            DETAIL = 'Both define the type "vector".',
            HINT = 'Use another database, or move: dump the data, drop the extension "vector", create pg_rag, and restore.';
    END IF;
END
$$;
