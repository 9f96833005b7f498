-- Embedding and generation.

-- A registered name is bound to the hashes of the model's files, so the two-argument forms are immutable.
CREATE FUNCTION embed(input text, model text) RETURNS vector
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'embed_with_model_wrapper';
COMMENT ON FUNCTION embed(text, text) IS 'vector of a text to be searched in';

CREATE FUNCTION embed(input text) RETURNS vector
    LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'embed_wrapper';
COMMENT ON FUNCTION embed(text) IS 'vector of a text to be searched in, by the model that pg_rag.embedding_model names';

CREATE FUNCTION embed(inputs text[], model text) RETURNS vector[]
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100000 AS 'MODULE_PATHNAME', 'embed_batch_wrapper';
COMMENT ON FUNCTION embed(text[], text) IS 'vectors of many texts in one call';

CREATE FUNCTION embed_query(input text, model text) RETURNS vector
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'embed_query_with_model_wrapper';
COMMENT ON FUNCTION embed_query(text, text) IS 'vector of a text to search for';

CREATE FUNCTION embed_query(input text) RETURNS vector
    LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'embed_query_wrapper';
COMMENT ON FUNCTION embed_query(text) IS 'vector of a text to search for, by the model that pg_rag.embedding_model names';

CREATE FUNCTION embed_tokens(input text, model text)
    RETURNS TABLE (seq integer, token text, char_start integer, char_end integer, embedding vector)
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100000 ROWS 100 AS 'MODULE_PATHNAME', 'embed_tokens_wrapper';
COMMENT ON FUNCTION embed_tokens(text, text) IS
    'last hidden state of a model for each token of a text, those included that the model puts around it';

CREATE FUNCTION rerank_score(query text, document text, model text DEFAULT NULL) RETURNS real
    LANGUAGE c STABLE PARALLEL SAFE COST 10000 AS 'MODULE_PATHNAME', 'rerank_score_wrapper';
COMMENT ON FUNCTION rerank_score(text, text, text) IS
    'how well a document answers a query, by a model that reads the two together; larger is better';

CREATE FUNCTION rerank(query text, documents text[], top_n integer DEFAULT NULL, model text DEFAULT NULL)
    RETURNS TABLE (ord integer, score real, document text)
    LANGUAGE c STABLE PARALLEL SAFE COST 100000 ROWS 10 AS 'MODULE_PATHNAME', 'rerank_wrapper';
COMMENT ON FUNCTION rerank(text, text[], integer, text) IS
    'documents from the one that answers a query best on, with their places in the array and their scores';

CREATE FUNCTION generate(
    prompt text, model text DEFAULT NULL, system text DEFAULT NULL, max_tokens integer DEFAULT 256,
    temperature real DEFAULT 0, top_p real DEFAULT 1, top_k integer DEFAULT 0, repeat_penalty real DEFAULT 1.1,
    seed bigint DEFAULT NULL, stop text[] DEFAULT NULL, json_schema json DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000000 AS 'MODULE_PATHNAME', 'generate_wrapper';
COMMENT ON FUNCTION generate(text, text, text, integer, real, real, integer, real, bigint, text[], json) IS
    'answer of a generation model to a prompt';

CREATE FUNCTION generate_stream(
    prompt text, model text DEFAULT NULL, system text DEFAULT NULL, max_tokens integer DEFAULT 256,
    temperature real DEFAULT 0, top_p real DEFAULT 1, top_k integer DEFAULT 0, repeat_penalty real DEFAULT 1.1,
    seed bigint DEFAULT NULL, stop text[] DEFAULT NULL, json_schema json DEFAULT NULL) RETURNS SETOF text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000000 ROWS 256 AS 'MODULE_PATHNAME', 'generate_stream_wrapper';
COMMENT ON FUNCTION generate_stream(text, text, text, integer, real, real, integer, real, bigint, text[], json) IS
    'answer of a generation model, piece by piece as it is produced';

-- json and not jsonb, which would lose the order of the schema's properties: the answer has them in this order.
CREATE FUNCTION chat(
    messages jsonb, model text DEFAULT NULL, max_tokens integer DEFAULT 256,
    temperature real DEFAULT 0, top_p real DEFAULT 1, top_k integer DEFAULT 0, repeat_penalty real DEFAULT 1.1,
    seed bigint DEFAULT NULL, stop text[] DEFAULT NULL, json_schema json DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000000 AS 'MODULE_PATHNAME', 'chat_wrapper';
COMMENT ON FUNCTION chat(jsonb, text, integer, real, real, integer, real, bigint, text[], json) IS
    'next turn of the assistant in a conversation of messages with role and content';

CREATE FUNCTION summarize(input text, max_words integer DEFAULT 100, model text DEFAULT NULL) RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 1000000 AS 'MODULE_PATHNAME', 'summarize_wrapper';
COMMENT ON FUNCTION summarize(text, integer, text) IS
    'a text in at most so many words, by a generation model; one longer than its context is read in pieces';
