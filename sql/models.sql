-- Schema of the internal tables, catalogue of models, the server's status, and the notice of DROP EXTENSION.

CREATE SCHEMA rag;
COMMENT ON SCHEMA rag IS 'internal tables of pg_rag';

CREATE TABLE rag.model (
    name         text PRIMARY KEY CHECK (name <> ''),
    kind         text NOT NULL CHECK (kind IN ('embed', 'rerank', 'generate')),
    source       text NOT NULL,
    files        jsonb NOT NULL,
    options      jsonb NOT NULL DEFAULT '{}',
    architecture text NOT NULL,
    dimensions   integer NOT NULL,
    max_tokens   integer NOT NULL,
    parameters   bigint NOT NULL,
    size_bytes   bigint NOT NULL,
    quantization text NOT NULL,
    builtin      boolean NOT NULL DEFAULT false,
    added_at     timestamptz NOT NULL DEFAULT now(),
    dropped_at   timestamptz,
    file_bytes   jsonb NOT NULL DEFAULT '{}',
    license      text,
    repository   text,
    revision     text
);
COMMENT ON TABLE rag.model IS 'registered models; a name stays bound to the hashes of its files, also after rag_drop_model';
COMMENT ON COLUMN rag.model.source IS 'absolute path, path relative to pg_rag.model_path, or a foreign server';
COMMENT ON COLUMN rag.model.files IS 'SHA-256 of every file that determines the results';
COMMENT ON COLUMN rag.model.file_bytes IS 'bytes of each of these files, as far as they are known';
COMMENT ON COLUMN rag.model.repository IS 'repository of the hub that the model was downloaded from';
COMMENT ON COLUMN rag.model.revision IS 'commit of the repository that the model comes from';

-- The two default models. Their hashes are known, so the files need not be there yet.
INSERT INTO rag.model (name, kind, source, files, architecture, dimensions, max_tokens, parameters, size_bytes, quantization, builtin,
                       file_bytes, license)
VALUES
    ('all-MiniLM-L6-v2', 'embed', 'all-MiniLM-L6-v2',
     '{"model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
       "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
       "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
       "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
       "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
       "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
       "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
       "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"}',
     'bert', 384, 256, 22713216, 90868376, 'F32', true,
     '{"model.safetensors": 90868376, "tokenizer.json": 466247, "tokenizer_config.json": 350, "config.json": 612,
       "modules.json": 349, "1_Pooling/config.json": 190, "sentence_bert_config.json": 53,
       "config_sentence_transformers.json": 116}', 'apache-2.0'),
    ('SmolLM2-135M-Instruct', 'generate', 'SmolLM2-135M-Instruct',
     '{"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}',
     'llama', 0, 8192, 134515008, 98362432, 'Q4_1', true,
     '{"SmolLM2-135M-Instruct.Q4_1.gguf": 98362432}', 'apache-2.0');

SELECT pg_catalog.pg_extension_config_dump('rag.model', 'WHERE NOT builtin');

-- Who may use a model. Two tables, so that a restore in a cluster that lacks a role loses grants, and never a restriction.
CREATE TABLE rag.restricted_model (
    model text PRIMARY KEY
);
COMMENT ON TABLE rag.restricted_model IS 'models that not everybody may use';

CREATE TABLE rag.model_grant (
    model     text NOT NULL,
    role      regrole NOT NULL,
    privilege text NOT NULL CHECK (privilege IN ('owner', 'use')),
    PRIMARY KEY (model, role, privilege)
);
COMMENT ON TABLE rag.model_grant IS 'owners of models, and roles that may use restricted ones';

SELECT pg_catalog.pg_extension_config_dump('rag.restricted_model', '');
-- Rows of roles that were dropped mean nothing, and must not come to mean another role.
SELECT pg_catalog.pg_extension_config_dump('rag.model_grant', 'WHERE role::oid IN (SELECT oid FROM pg_catalog.pg_roles)');

CREATE FUNCTION rag_grant_model(name text, role text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_grant_model_wrapper';
COMMENT ON FUNCTION rag_grant_model(text, text) IS 'lets a role, or public, use a model; for its owner and superusers';

CREATE FUNCTION rag_revoke_model(name text, role text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_revoke_model_wrapper';
COMMENT ON FUNCTION rag_revoke_model(text, text) IS
    'takes the right to use a model from a role, or from public; for its owner and superusers';

CREATE FUNCTION rag_download_model(
    repo text, name text DEFAULT NULL, kind text DEFAULT NULL, revision text DEFAULT 'main', files text[] DEFAULT NULL,
    options jsonb DEFAULT '{}') RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_download_model_wrapper';
COMMENT ON FUNCTION rag_download_model(text, text, text, text, text[], jsonb) IS
    'downloads a model from the hub into the server''s folder and registers it; returns its name';

CREATE FUNCTION rag_check_model(
    name text, OUT file text, OUT state text, OUT sha256 text, OUT found_sha256 text) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 8 AS 'MODULE_PATHNAME', 'rag_check_model_wrapper';
COMMENT ON FUNCTION rag_check_model(text) IS 'reads all files of a model and compares their hashes with the registered ones';

CREATE FUNCTION rag.model_files(
    OUT model text, OUT file text, OUT bytes bigint, OUT found_bytes bigint, OUT state text) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 16 AS 'MODULE_PATHNAME', 'model_files_wrapper';
COMMENT ON FUNCTION rag.model_files() IS 'files of the registered models, and whether they are there with the registered sizes';

CREATE VIEW rag_model_files AS SELECT model, file, bytes, found_bytes, state FROM rag.model_files();
COMMENT ON VIEW rag_model_files IS
    'files of the registered models on this server, and whether they are there with the registered sizes';

CREATE FUNCTION rag.stored_models(OUT path text, OUT repository text, OUT bytes bigint, OUT models text[])
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 16 AS 'MODULE_PATHNAME', 'stored_models_wrapper';
COMMENT ON FUNCTION rag.stored_models() IS 'asks the model server what it has written into its own folder';

CREATE VIEW rag_stored_models AS SELECT path, repository, bytes, models FROM rag.stored_models();
COMMENT ON VIEW rag_stored_models IS
    'models that downloads and quantisation have written into the server''s own folder, for all databases';
COMMENT ON COLUMN rag_stored_models.models IS 'registered models of this database that use it';

CREATE FUNCTION rag_delete_stored_model(path text, unused_elsewhere boolean DEFAULT false) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_delete_stored_model_wrapper';
COMMENT ON FUNCTION rag_delete_stored_model(text, boolean) IS
    'deletes a model from the server''s own folder, which cannot be rolled back; returns the bytes that this has freed';

CREATE FUNCTION rag_add_model(name text, kind text, source text, options jsonb DEFAULT '{}') RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_add_model_wrapper';
COMMENT ON FUNCTION rag_add_model(text, text, text, jsonb) IS
    'registers the model in a folder or GGUF file of the server, or behind a foreign server, under a name';

CREATE FUNCTION rag_drop_model(name text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_drop_model_wrapper';
COMMENT ON FUNCTION rag_drop_model(text) IS 'drops a registered model; its files stay until rag_delete_stored_model';

CREATE FUNCTION rag_load_model(name text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'rag_load_model_wrapper';
COMMENT ON FUNCTION rag_load_model(text) IS 'loads a model into the server now instead of at its first use';

CREATE FUNCTION rag_unload_model(name text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'rag_unload_model_wrapper';
COMMENT ON FUNCTION rag_unload_model(text) IS 'frees the memory of a model; its next use loads it again';

CREATE FUNCTION rag_quantize_model(name text, new_name text, type text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_quantize_model_wrapper';
COMMENT ON FUNCTION rag_quantize_model(text, text, text) IS
    'writes a generation model with smaller weights as a GGUF file and registers it under a new name';

CREATE FUNCTION rag_quantization_report(
    name text, sample text DEFAULT NULL,
    OUT tensor text, OUT original_type text, OUT type text, OUT elements bigint, OUT bytes bigint,
    OUT rmse double precision, OUT max_error double precision, OUT cosine double precision,
    OUT original_perplexity double precision, OUT perplexity double precision) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 300 AS 'MODULE_PATHNAME', 'rag_quantization_report_wrapper';
COMMENT ON FUNCTION rag_quantization_report(text, text) IS
    'errors of every tensor of a quantised model, and of the whole, with its perplexity on a sample text before and after';

CREATE FUNCTION rag_model_memory(
    name text, context integer DEFAULT NULL, dtype text DEFAULT NULL,
    OUT weights_type text, OUT context_tokens integer, OUT weights_bytes bigint, OUT vocabulary_bytes bigint, OUT kv_cache_bytes bigint,
    OUT prefix_cache_bytes bigint, OUT activations_bytes bigint, OUT total_bytes bigint,
    OUT fits_ram boolean, OUT fits_gpu boolean, OUT fits_max_memory boolean) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'rag_model_memory_wrapper';
COMMENT ON FUNCTION rag_model_memory(text, integer, text) IS
    'memory that a model takes with a context of so many tokens and weights of a type, by the headers of its files';

CREATE FUNCTION rag.model_progress(
    OUT pid integer, OUT model text, OUT phase text, OUT done bigint, OUT total bigint, OUT elapsed_s double precision)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 2 AS 'MODULE_PATHNAME', 'model_progress_wrapper';
COMMENT ON FUNCTION rag.model_progress() IS 'long work on models of this database';

CREATE VIEW rag_model_progress AS SELECT * FROM rag.model_progress();
COMMENT ON VIEW rag_model_progress IS
    'how far running calls of rag_download_model, rag_check_model, rag_quantize_model and rag_quantization_report have come';

CREATE FUNCTION rag.server_status(
    OUT pid integer, OUT uptime_s double precision, OUT threads integer, OUT connections integer,
    OUT queued integer, OUT generating integer, OUT resident_bytes bigint,
    OUT memory_bytes bigint, OUT max_memory_bytes bigint, OUT works text[]) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'server_status_wrapper';
COMMENT ON FUNCTION rag.server_status() IS 'asks the model server for its state; starts it if it is not running';

CREATE FUNCTION rag.devices(
    OUT name text, OUT kind text, OUT memory_bytes bigint, OUT compute_capability text, OUT features text[])
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 2 AS 'MODULE_PATHNAME', 'devices_wrapper';
COMMENT ON FUNCTION rag.devices() IS 'asks the model server what there is to compute with; starts it if it is not running';

CREATE FUNCTION rag.loaded_models(
    OUT name text, OUT kind text, OUT resident_bytes bigint, OUT load_ms real,
    OUT requests bigint, OUT tokens bigint, OUT idle_s double precision) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 4 AS 'MODULE_PATHNAME', 'loaded_models_wrapper';
COMMENT ON FUNCTION rag.loaded_models() IS 'models that the server holds in memory';

CREATE VIEW rag_models AS
    SELECT m.name, m.kind, m.architecture, NULLIF(m.dimensions, 0) AS dimensions, m.max_tokens,
           NULLIF(m.parameters, 0) AS parameters, NULLIF(m.size_bytes, 0) AS size_bytes, NULLIF(m.quantization, '') AS quantization, m.license, m.repository, m.revision, m.source, m.options, m.builtin, m.added_at,
           (SELECT min(r.rolname::text) FROM rag.model_grant g JOIN pg_catalog.pg_roles r ON r.oid = g.role::oid
             WHERE g.model = m.name AND g.privilege = 'owner') AS owner,
           CASE WHEN EXISTS (SELECT FROM rag.restricted_model r WHERE r.model = m.name)
                THEN ARRAY(SELECT r.rolname::text FROM rag.model_grant g JOIN pg_catalog.pg_roles r ON r.oid = g.role::oid
                            WHERE g.model = m.name AND g.privilege = 'use' ORDER BY 1)
                ELSE '{public}' END AS granted_to
      FROM rag.model m WHERE m.dropped_at IS NULL;
COMMENT ON VIEW rag_models IS 'registered models';
COMMENT ON COLUMN rag_models.granted_to IS 'roles that may use the model, beside its owner and superusers; public means all';

CREATE VIEW rag_server_status AS
    SELECT pid, make_interval(secs => uptime_s) AS uptime, threads, connections, queued, generating, resident_bytes,
           memory_bytes, max_memory_bytes, works
      FROM rag.server_status();
COMMENT ON VIEW rag_server_status IS 'state of the model server; reading it starts the server';
COMMENT ON COLUMN rag_server_status.works IS 'long work on models, such as downloads, and how far it has come';

CREATE VIEW rag_devices AS SELECT name, kind, memory_bytes, compute_capability, features FROM rag.devices();
COMMENT ON VIEW rag_devices IS 'what the model server computes with: processors and their instruction sets';

CREATE VIEW rag_loaded_models AS
    SELECT name, kind, resident_bytes, load_ms, requests, tokens, make_interval(secs => idle_s) AS idle
      FROM rag.loaded_models();
COMMENT ON VIEW rag_loaded_models IS 'models in the memory of the server; reading it starts the server';

-- Loads the library before an extension can be dropped, so that a drop of pg_rag is noticed and the server stops.
CREATE FUNCTION rag.notice_drop() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'pg_rag_notice_drop';
COMMENT ON FUNCTION rag.notice_drop() IS 'loads the library so that it notices DROP EXTENSION pg_rag';

CREATE EVENT TRIGGER pg_rag_notice_drop ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION rag.notice_drop();
COMMENT ON EVENT TRIGGER pg_rag_notice_drop IS 'lets pg_rag stop its model server when the extension is dropped';
