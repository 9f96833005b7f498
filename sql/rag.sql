-- Indexes over documents, search and answers.

CREATE TABLE rag.index (
    index        regclass PRIMARY KEY,
    source       regclass NOT NULL,
    chunks       regclass NOT NULL,
    column_name  name NOT NULL,
    key_columns  name[] NOT NULL,
    title_column name,
    model        text NOT NULL,
    strategy     text NOT NULL,
    size         integer NOT NULL,
    overlap      integer NOT NULL,
    unit         text NOT NULL,
    template     text NOT NULL,
    fts_config   regconfig NOT NULL,
    where_sql    text,
    filter_columns name[] NOT NULL DEFAULT '{}',
    pages_column name,
    summary_model text,
    summary_max_words integer,
    replaces     regclass,
    created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE rag.index IS 'RAG indexes; the view of an index stands for it';
COMMENT ON COLUMN rag.index.where_sql IS 'which rows of the source are indexed; columns are those of s';
COMMENT ON COLUMN rag.index.filter_columns IS 'columns of the source of which the chunk table has copies, as filter_<name>';
COMMENT ON COLUMN rag.index.pages_column IS 'column that tells where the pages of the text start';
COMMENT ON COLUMN rag.index.summary_model IS 'model that writes summaries of pages, or of rows without pages; NULL: there are none';
COMMENT ON COLUMN rag.index.summary_max_words IS 'most words of a summary';
COMMENT ON COLUMN rag.index.replaces IS 'index whose place this one takes as soon as it is complete (rag_reindex)';
SELECT pg_catalog.pg_extension_config_dump('rag.index', '');

CREATE VIEW rag_indexes AS
    SELECT i.index, i.source, i.column_name, i.chunks, i.model, i.strategy, i.size, i.overlap, i.unit, i.template, i.fts_config,
           i.where_sql, i.filter_columns, i.pages_column, i.summary_model, i.summary_max_words, i.replaces, i.created_at
      FROM rag.index i JOIN pg_catalog.pg_class v ON v.oid = i.index;
COMMENT ON VIEW rag_indexes IS 'RAG indexes of this database';

CREATE FUNCTION rag.index_progress(
    OUT pid integer, OUT index_name text, OUT rows_done bigint, OUT rows_total bigint, OUT chunks_done bigint,
    OUT chunks_embedded bigint, OUT elapsed_s double precision) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED ROWS 2 AS 'MODULE_PATHNAME', 'index_progress_wrapper';
COMMENT ON FUNCTION rag.index_progress() IS 'running refreshes of this database';

CREATE VIEW rag_index_progress AS SELECT * FROM rag.index_progress();
COMMENT ON VIEW rag_index_progress IS 'how far running calls of rag_create_index and rag_refresh have come';

CREATE FUNCTION rag_create_index(
    source regclass, column_name text, name text DEFAULT NULL, model text DEFAULT NULL,
    chunking jsonb DEFAULT '{}', template text DEFAULT '{chunk}',
    backfill boolean DEFAULT true, if_not_exists boolean DEFAULT false,
    sync text DEFAULT 'async', wait boolean DEFAULT true, fts_config regconfig DEFAULT NULL,
    where_sql text DEFAULT NULL, filter_columns text[] DEFAULT '{}', pages_column text DEFAULT NULL,
    summarize boolean DEFAULT false, summary_model text DEFAULT NULL, summary_max_words integer DEFAULT 80) RETURNS regclass
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_create_index_wrapper';
COMMENT ON FUNCTION rag_create_index(regclass, text, text, text, jsonb, text, boolean, boolean, text, boolean, regconfig, text, text[], text, boolean, text, integer) IS
    'cuts and embeds a text column of a table; returns the view that joins rows and chunks';

CREATE FUNCTION rag_create_collection(
    name text, model text DEFAULT NULL, chunking jsonb DEFAULT '{}', template text DEFAULT '{chunk}',
    sync text DEFAULT 'async', fts_config regconfig DEFAULT NULL, filter_columns text[] DEFAULT '{}',
    summarize boolean DEFAULT false, summary_model text DEFAULT NULL, summary_max_words integer DEFAULT 80) RETURNS regclass
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_create_collection_wrapper';
COMMENT ON FUNCTION rag_create_collection(text, text, jsonb, text, text, regconfig, text[], boolean, text, integer) IS
    'creates a table for documents, with an index <name>_rag over their text; rag_ingest fills it';

CREATE FUNCTION rag_ingest(
    collection regclass, document bytea, uri text DEFAULT NULL, metadata jsonb DEFAULT '{}', title text DEFAULT NULL,
    type text DEFAULT NULL, encoding text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 AS 'MODULE_PATHNAME', 'rag_ingest_wrapper';
COMMENT ON FUNCTION rag_ingest(regclass, bytea, text, jsonb, text, text, text) IS
    'reads a document into a collection, in place of the one with the same uri; returns its id';

CREATE FUNCTION rag_ingest(
    collection regclass, document text, uri text DEFAULT NULL, metadata jsonb DEFAULT '{}', title text DEFAULT NULL,
    type text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 AS 'MODULE_PATHNAME', 'rag_ingest_text_wrapper';
COMMENT ON FUNCTION rag_ingest(regclass, text, text, jsonb, text, text) IS
    'reads a text (plain, Markdown or HTML) into a collection, in place of the one with the same uri; returns its id';

CREATE FUNCTION rag_reindex(
    index regclass, model text DEFAULT NULL, chunking jsonb DEFAULT NULL, template text DEFAULT NULL,
    fts_config regconfig DEFAULT NULL) RETURNS regclass
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_reindex_wrapper';
COMMENT ON FUNCTION rag_reindex(regclass, text, jsonb, text, regconfig) IS
    'builds an index anew beside the old one, which serves until the new one is complete and takes its place';

CREATE FUNCTION rag_refresh(index regclass, OUT rows bigint, OUT chunks bigint, OUT embedded bigint, OUT removed_rows bigint)
    RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'rag_refresh_wrapper';
COMMENT ON FUNCTION rag_refresh(regclass) IS 'brings an index up to date with its table; embeds only what changed';

CREATE FUNCTION rag_drop_index(index regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_drop_index_wrapper';
COMMENT ON FUNCTION rag_drop_index(regclass) IS 'drops an index with its chunks; the table stays';

CREATE FUNCTION rag_search(
    question text, index regclass DEFAULT NULL, k integer DEFAULT 8, where_sql text DEFAULT NULL,
    where_args jsonb DEFAULT NULL, min_score real DEFAULT NULL, mode text DEFAULT 'hybrid',
    candidates integer DEFAULT NULL, vector_weight real DEFAULT 0.5, per_source integer DEFAULT NULL,
    rrf_k integer DEFAULT 5, rerank_model text DEFAULT NULL, mmr_lambda real DEFAULT NULL, neighbors integer DEFAULT 0)
    RETURNS TABLE (rank integer, score real, source_key jsonb, chunk_seq integer, chunk text,
                   char_start integer, char_end integer, distance real, vector_rank integer, text_rank integer,
                   metadata jsonb, rerank_score real)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 8 COST 100000 AS 'MODULE_PATHNAME', 'rag_search_wrapper';
COMMENT ON FUNCTION rag_search(text, regclass, integer, text, jsonb, real, text, integer, real, integer, integer, text, real, integer) IS
    'chunks that answer a question best, by vector and words; where_sql is a condition on the source table in which $1 is where_args';

CREATE FUNCTION rag_eval(
    index regclass, testset regclass, k integer DEFAULT 10, mode text DEFAULT 'hybrid', vector_weight real DEFAULT 0.5,
    rrf_k integer DEFAULT 5, rerank_model text DEFAULT NULL)
    RETURNS TABLE (questions integer, recall double precision, "precision" double precision, mrr double precision,
                   ndcg double precision, avg_ms double precision, p95_ms double precision)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1 COST 1000000 AS 'MODULE_PATHNAME', 'rag_eval_wrapper';
COMMENT ON FUNCTION rag_eval(regclass, regclass, integer, text, real, integer, text) IS
    'quality of an index over a table with columns question and relevant (keys of the rows that answer it)';

CREATE FUNCTION rag_map(
    index regclass DEFAULT NULL, color_by text DEFAULT NULL, title text DEFAULT NULL, limit_points integer DEFAULT 5000,
    format text DEFAULT 'svg', layout text DEFAULT 'neighbors') RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 AS 'MODULE_PATHNAME', 'rag_map_wrapper';
COMMENT ON FUNCTION rag_map(regclass, text, text, integer, text, text) IS
    'the chunks of an index as a picture in SVG or HTML: near points are alike, coloured by a column of the table';

CREATE TABLE rag.prompt_template (
    name       text PRIMARY KEY,
    body       text NOT NULL,
    owner      name NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE rag.prompt_template IS 'prompts that have a name; written by rag_create_template and rag_drop_template';
SELECT pg_catalog.pg_extension_config_dump('rag.prompt_template', '');

CREATE VIEW rag_templates AS SELECT name, body, owner, created_at FROM rag.prompt_template;
COMMENT ON VIEW rag_templates IS 'prompt templates of this database';

CREATE FUNCTION rag_create_template(name text, body text, or_replace boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_create_template_wrapper';
COMMENT ON FUNCTION rag_create_template(text, text, boolean) IS
    'gives a prompt a name, by which the argument template of rag_ask and others can mean it';

CREATE FUNCTION rag_drop_template(name text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_drop_template_wrapper';
COMMENT ON FUNCTION rag_drop_template(text) IS 'drops a prompt template of the caller';

CREATE FUNCTION rag_ask(
    question text, index regclass DEFAULT NULL, k integer DEFAULT 3, where_sql text DEFAULT NULL,
    where_args jsonb DEFAULT NULL, model text DEFAULT NULL, template text DEFAULT NULL,
    max_context_tokens integer DEFAULT NULL, max_tokens integer DEFAULT 200, temperature real DEFAULT 0,
    seed bigint DEFAULT NULL, min_score real DEFAULT NULL, mode text DEFAULT 'hybrid',
    context_sentences integer DEFAULT 3, rerank_model text DEFAULT NULL, neighbors integer DEFAULT 0,
    history jsonb DEFAULT NULL)
    RETURNS TABLE (answer text, citations jsonb, sources jsonb, grounded boolean, usage jsonb)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1 COST 1000000 AS 'MODULE_PATHNAME', 'rag_ask_wrapper';
COMMENT ON FUNCTION rag_ask(text, regclass, integer, text, jsonb, text, text, integer, integer, real, bigint, real, text, integer, text, integer, jsonb) IS
    'answer to a question out of the rows of an index, with its sources and what it cost';

CREATE FUNCTION rag_answer(
    question text, index regclass DEFAULT NULL, k integer DEFAULT 3, where_sql text DEFAULT NULL,
    where_args jsonb DEFAULT NULL, model text DEFAULT NULL, template text DEFAULT NULL,
    max_context_tokens integer DEFAULT NULL, max_tokens integer DEFAULT 200, temperature real DEFAULT 0,
    seed bigint DEFAULT NULL, min_score real DEFAULT NULL, mode text DEFAULT 'hybrid',
    context_sentences integer DEFAULT 3, rerank_model text DEFAULT NULL, neighbors integer DEFAULT 0,
    history jsonb DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000000 AS 'MODULE_PATHNAME', 'rag_answer_wrapper';
COMMENT ON FUNCTION rag_answer(text, regclass, integer, text, jsonb, text, text, integer, integer, real, bigint, real, text, integer, text, integer, jsonb) IS
    'answer to a question out of the rows of an index';

CREATE FUNCTION rag_answer_stream(
    question text, index regclass DEFAULT NULL, k integer DEFAULT 3, where_sql text DEFAULT NULL,
    where_args jsonb DEFAULT NULL, model text DEFAULT NULL, template text DEFAULT NULL,
    max_context_tokens integer DEFAULT NULL, max_tokens integer DEFAULT 200, temperature real DEFAULT 0,
    seed bigint DEFAULT NULL, min_score real DEFAULT NULL, mode text DEFAULT 'hybrid',
    context_sentences integer DEFAULT 3, rerank_model text DEFAULT NULL, neighbors integer DEFAULT 0,
    history jsonb DEFAULT NULL) RETURNS SETOF text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000000 ROWS 64 AS 'MODULE_PATHNAME', 'rag_answer_stream_wrapper';
COMMENT ON FUNCTION rag_answer_stream(text, regclass, integer, text, jsonb, text, text, integer, integer, real, bigint, real, text, integer, text, integer, jsonb) IS
    'answer to a question out of the rows of an index, piece by piece as it is written';

CREATE FUNCTION rag_answer_from(
    question text, context text[], model text DEFAULT NULL, template text DEFAULT NULL,
    max_context_tokens integer DEFAULT NULL, max_tokens integer DEFAULT 200, temperature real DEFAULT 0,
    seed bigint DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000000 AS 'MODULE_PATHNAME', 'rag_answer_from_wrapper';
COMMENT ON FUNCTION rag_answer_from(text, text[], text, text, integer, integer, real, bigint) IS
    'answer to a question out of the given passages';

CREATE FUNCTION rag_prompt(
    question text, context text[], model text DEFAULT NULL, template text DEFAULT NULL,
    max_context_tokens integer DEFAULT NULL, max_tokens integer DEFAULT 200) RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000 AS 'MODULE_PATHNAME', 'rag_prompt_wrapper';
COMMENT ON FUNCTION rag_prompt(text, text[], text, text, integer, integer) IS
    'prompt that rag_answer_from would send to the model';

-- Passages beyond the 64th can't fit into a prompt that is worth reading; they are not even kept.
CREATE FUNCTION rag.answer_accumulate(state text[], question text, passage text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN state IS NULL AND passage IS NULL THEN ARRAY[question]
        WHEN state IS NULL THEN ARRAY[question, passage]
        WHEN passage IS NULL OR pg_catalog.cardinality(state) > 64 THEN state
        ELSE pg_catalog.array_append(state, passage)
    END;
COMMENT ON FUNCTION rag.answer_accumulate(text[], text, text) IS 'transition function of rag_answer_agg';

CREATE FUNCTION rag.answer_finish(state text[]) RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000000 AS 'MODULE_PATHNAME', 'answer_finish_wrapper';
COMMENT ON FUNCTION rag.answer_finish(text[]) IS 'final function of rag_answer_agg';

CREATE AGGREGATE rag_answer_agg(question text, passage text) (
    SFUNC = rag.answer_accumulate,
    STYPE = text[],
    FINALFUNC = rag.answer_finish,
    PARALLEL = RESTRICTED
);
COMMENT ON AGGREGATE rag_answer_agg(text, text) IS
    'answer to a question out of the passages of any query: rag_answer_agg(''…'', body ORDER BY score DESC)';
