-- Runs first: the extension, and what the other files use to look at errors.
CREATE EXTENSION pg_rag;
SELECT extversion ~ '^[0-9]+\.[0-9]+\.[0-9]+$' AS versioned FROM pg_extension WHERE extname = 'pg_rag';
-- SQLSTATE, message, detail and hint of the error that a statement raises. Of paths, only the last two names.
CREATE FUNCTION outcome(statement text, OUT code text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    code := '00000';
    message := 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                            hint = PG_EXCEPTION_HINT;
    message := regexp_replace(message, '"/[^"]*/(test_models/[^"]*)"', '"…/\1"');
END
$$;
SELECT code, message FROM outcome('SELECT 1/0');
-- Every object of the extension has a comment.
SELECT pg_describe_object(classid, objid, objsubid) AS without_comment
  FROM pg_depend
 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_rag')
   AND obj_description(objid, classid::regclass::name) IS NULL
   AND NOT (classid = 'pg_type'::regclass AND objid IN (SELECT oid FROM pg_type WHERE typrelid <> 0 OR typelem <> 0))
 ORDER BY 1;
