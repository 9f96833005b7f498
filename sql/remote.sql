-- Models that run elsewhere: foreign servers say where. Nobody but a superuser can create one until others are granted
-- USAGE on the wrapper, and nobody but its owner can use one until others are granted USAGE on it.

CREATE FUNCTION rag.remote_validator(options text[], catalogue oid) RETURNS void
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'remote_validator_wrapper';
COMMENT ON FUNCTION rag.remote_validator(text[], oid) IS 'checks options of foreign servers and user mappings of pg_rag_remote';

CREATE FOREIGN DATA WRAPPER pg_rag_remote NO HANDLER VALIDATOR rag.remote_validator;
COMMENT ON FOREIGN DATA WRAPPER pg_rag_remote IS
    'servers that run models behind an HTTP interface like OpenAI''s; they have no tables';

CREATE FUNCTION rag.check_servers() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'check_servers_wrapper';
COMMENT ON FUNCTION rag.check_servers() IS 'refuses to drop or rename a foreign server that models use';

CREATE EVENT TRIGGER pg_rag_server_drop ON sql_drop
    WHEN TAG IN ('DROP SERVER', 'DROP OWNED')
    EXECUTE FUNCTION rag.check_servers();
COMMENT ON EVENT TRIGGER pg_rag_server_drop IS 'keeps foreign servers that models use';

CREATE EVENT TRIGGER pg_rag_server_rename ON ddl_command_end
    WHEN TAG IN ('ALTER SERVER')
    EXECUTE FUNCTION rag.check_servers();
COMMENT ON EVENT TRIGGER pg_rag_server_rename IS 'keeps the names of foreign servers that models use';
