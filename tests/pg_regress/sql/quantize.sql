-- rag_quantize_model, rag_quantization_report, rag_model_memory.
LOAD 'pg_rag';
SET pg_rag.generation_model = 'SmolLM2-135M-Instruct';

-- A smaller copy is a model like any other.
SELECT rag_quantize_model('SmolLM2-135M-Instruct', 'small', 'q4_0');
SELECT kind, architecture, quantization, source LIKE 'server:small-%.gguf' AS own_folder, options FROM rag_models WHERE name = 'small';
SELECT generate('What is the capital of France?', 'small', max_tokens => 8) <> '' AS answers;
SELECT count(*) FROM rag_model_progress;

-- What that has changed
SELECT count(*) > 200 AS every_tensor, bool_and(rmse <= max_error) AS ordered, bool_and(cosine > 0.97) AS near,
       bool_and(rmse = 0) FILTER (WHERE tensor LIKE '%norm%') AS norms_are_exact,
       bool_or(type = 'Q4_0' AND original_type = 'Q4_1') AS types
  FROM rag_quantization_report('small') WHERE tensor IS NOT NULL;
SELECT cosine, original_perplexity > 1 AS original, perplexity / original_perplexity BETWEEN 0.8 AND 1.5 AS change
  FROM rag_quantization_report('small', 'The capital of France is Paris. Paris lies on the river Seine.') WHERE tensor IS NULL;
SELECT code, message FROM outcome($$SELECT rag_quantization_report('SmolLM2-135M-Instruct')$$);
SELECT code, message FROM outcome($$SELECT rag_quantization_report('small', 'a')$$);

-- What models take
SELECT weights_type, context_tokens, kv_cache_bytes, weights_bytes + vocabulary_bytes + kv_cache_bytes + prefix_cache_bytes + activations_bytes = total_bytes AS sum,
       fits_ram, fits_max_memory
  FROM rag_model_memory('SmolLM2-135M-Instruct', 2048);
SELECT a.weights_bytes < b.weights_bytes AS smaller, b.weights_type, a.context_tokens
  FROM rag_model_memory('SmolLM2-135M-Instruct', dtype => 'q4_0') a, rag_model_memory('SmolLM2-135M-Instruct', dtype => 'f16') b;
SELECT weights_type, weights_bytes > 80000000 AS weights, kv_cache_bytes FROM rag_model_memory('all-MiniLM-L6-v2');
SELECT code, message FROM outcome($$SELECT rag_model_memory('SmolLM2-135M-Instruct', 0)$$);
SELECT code, message FROM outcome($$SELECT rag_model_memory(NULL)$$);

-- Errors
SELECT code, message FROM outcome($$SELECT rag_quantize_model('SmolLM2-135M-Instruct', 'small', 'q8_0')$$);
SELECT code, message FROM outcome($$SELECT rag_quantize_model('SmolLM2-135M-Instruct', '', 'q8_0')$$);
SELECT code, message ~ '^type "q9" is not known; there are f32, f16' AS lists_types FROM outcome($$SELECT rag_quantize_model('SmolLM2-135M-Instruct', 'other', 'q9')$$);
SELECT code, message FROM outcome($$SELECT rag_quantize_model('nothing', 'other', 'q8_0')$$);
SELECT code FROM outcome($$SELECT rag_quantize_model('all-MiniLM-L6-v2', 'other', 'q8_0')$$);
CREATE ROLE quantize_nobody;
SET ROLE quantize_nobody;
SELECT code FROM outcome($$SELECT rag_quantize_model('SmolLM2-135M-Instruct', 'other', 'q8_0')$$);
SELECT code FROM outcome($$SELECT rag_quantization_report('small')$$);
RESET ROLE;

-- Files stay when a model is dropped, until they are deleted.
CREATE TEMP TABLE stored AS SELECT path FROM rag_stored_models WHERE 'small' = ANY (models);
SELECT path ~ '^small-[0-9a-f]{16}\.gguf$' AS path FROM stored;
SELECT repository, bytes BETWEEN 5e7 AND 2e8 AS bytes, models FROM rag_stored_models JOIN stored USING (path);
SELECT code, regexp_replace(message, '-[0-9a-f]{16}', '-…') AS message, detail FROM outcome($$SELECT rag_delete_stored_model(path, true) FROM stored$$);
SELECT rag_drop_model('small');
SELECT models FROM rag_stored_models JOIN stored USING (path);
SELECT code, regexp_replace(message, '-[0-9a-f]{16}', '-…') AS message, detail ~ 'postgres' AS names_databases FROM outcome($$SELECT rag_delete_stored_model(path) FROM stored$$);
SELECT rag_delete_stored_model(path, unused_elsewhere => true) > 5e7 AS freed FROM stored;
SELECT count(*) FROM rag_stored_models JOIN stored USING (path);
SELECT code, message FROM outcome($$SELECT rag_delete_stored_model('small.gguf', true)$$);
SELECT code, message FROM outcome($$SELECT rag_delete_stored_model('../PG_VERSION', true)$$);
SELECT code, message FROM outcome($$SELECT rag_delete_stored_model(NULL)$$);
SET ROLE quantize_nobody;
SELECT code FROM outcome($$SELECT rag_delete_stored_model('small.gguf', true)$$);
SELECT code FROM outcome($$SELECT * FROM rag_stored_models$$);
RESET ROLE;
DROP ROLE quantize_nobody;
