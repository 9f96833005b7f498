-- Who may do what. Runs last.

GRANT USAGE ON SCHEMA rag TO PUBLIC;
GRANT SELECT ON rag.model, rag.restricted_model, rag.model_grant, rag.index, rag.prompt_template TO PUBLIC;

-- These name files of the server or decide about memory that everybody shares.
REVOKE ALL ON FUNCTION rag_add_model(text, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION rag_download_model(text, text, text, text, text[], jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION rag_check_model(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION rag_drop_model(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION rag.stored_models() FROM PUBLIC;
REVOKE ALL ON FUNCTION rag_delete_stored_model(text, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION rag_load_model(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION rag_unload_model(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION rag_quantize_model(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION rag_quantization_report(text, text) FROM PUBLIC;
-- A template decides how the questions of others are answered that name it.
REVOKE ALL ON FUNCTION rag_create_template(text, text, boolean) FROM PUBLIC;

GRANT SELECT ON rag_models, rag_indexes, rag_server_status, rag_loaded_models, rag_devices, rag_index_progress,
    rag_model_progress, rag_model_files, rag_index_status, rag_index_errors, rag_templates TO PUBLIC;
