-- rag_add_model, rag_drop_model and what happens with files that are wrong.
-- The folders are made inside the data directory: the one place that the server can surely read and write.
-- No row is written to the programs: one that reads nothing may have ended before the row arrives.
LOAD 'pg_rag';
COPY (SELECT WHERE false) TO PROGRAM 'rm -rf test_models && mkdir test_models';
SELECT format('cp -R %s/all-MiniLM-L6-v2 test_models/good', current_setting('pg_rag.model_path')) AS copy_good,
       current_setting('data_directory') || '/test_models' AS folder \gset
COPY (SELECT WHERE false) TO PROGRAM :'copy_good';
COPY (SELECT WHERE false) TO PROGRAM '
    cd test_models
    cp -R good truncated && head -c 1000000 good/model.safetensors > truncated/model.safetensors
    cp -R good no_header && head -c 4 good/model.safetensors > no_header/model.safetensors
    cp -R good huge_header && printf "\377\377\377\377\377\377\377\177{}" > huge_header/model.safetensors
    cp -R good no_weights && rm no_weights/model.safetensors
    cp -R good no_tokenizer && rm no_tokenizer/tokenizer.json
    cp -R good bad_config && echo "not json" > bad_config/config.json
    cp -R good other_kind && sed -i "s/\"BertModel\"/\"MambaModel\"/; s/\"model_type\": \"bert\"/\"model_type\": \"mamba\"/" other_kind/config.json
    cp -R good pickled && mv pickled/model.safetensors pickled/pytorch_model.bin
    mkdir empty
    mkdir broken_gguf && head -c 100000 /dev/zero > broken_gguf/model.gguf
    mkdir short_gguf && printf "GGUF\003\000\000\000\377\377\377\377\377\377\377\177" > short_gguf/model.gguf
    cp -R good closed && chmod 000 closed
    cp -R good closed_file && chmod 000 closed_file/model.safetensors';

SELECT name, kind, architecture, dimensions, max_tokens, parameters, size_bytes, quantization, source, builtin FROM rag_models ORDER BY name COLLATE "C";

-- A folder, by absolute path and relative to pg_rag.model_path
SELECT rag_add_model('absolute', 'embed', :'folder' || '/good');
SET pg_rag.model_path = :'folder';
SELECT rag_add_model('relative', 'embed', 'good');
RESET pg_rag.model_path;
SELECT a.architecture, a.dimensions, a.max_tokens, a.quantization, a.builtin, r.source
  FROM rag_models a, rag_models r WHERE a.name = 'absolute' AND r.name = 'relative';
SELECT embed('a text', 'absolute') = embed('a text') AS same_vector;
SELECT code, message ~ '/good" does not exist$' AS looked_in_the_path_of_now FROM outcome($$SELECT embed('a text', 'relative')$$);

-- Names
SELECT code, message, hint FROM outcome(format($$SELECT rag_add_model('absolute', 'embed', %L)$$, :'folder' || '/good'));
SELECT code, message, hint FROM outcome(format($$SELECT rag_add_model('all-MiniLM-L6-v2', 'embed', %L)$$, :'folder' || '/good'));
SELECT code, message, hint FROM outcome($$SELECT rag_add_model('', 'embed', 'good')$$);
SELECT code, message, hint FROM outcome($$SELECT rag_add_model('new', 'embed', '')$$);
SELECT code, message, hint FROM outcome($$SELECT rag_add_model('new', 'translate', 'good')$$);
SELECT code, message, hint FROM outcome($$SELECT rag_add_model('new', 'embed', 'good', '[]')$$);

-- Files
SELECT f, code, message, hint FROM unnest(ARRAY['missing', 'empty', 'no_weights', 'no_tokenizer', 'pickled',
        'no_header', 'huge_header', 'truncated', 'bad_config', 'other_kind', 'closed', 'closed_file', 'good/model.safetensors']) f,
    outcome(format($$SELECT rag_add_model('new', 'embed', %L)$$, :'folder' || '/' || f));
SELECT f, code, message, hint FROM unnest(ARRAY['missing', 'empty', 'broken_gguf', 'short_gguf', 'good']) f,
    outcome(format($$SELECT rag_add_model('new', 'generate', %L)$$, :'folder' || '/' || f));
SELECT count(*) AS nothing_registered FROM rag_models WHERE name = 'new';

-- Files that change after their registration
SELECT rag_unload_model('absolute');
COPY (SELECT WHERE false) TO PROGRAM 'cd test_models && mv good/model.safetensors kept && cp kept good/model.safetensors && printf "x" | dd of=good/model.safetensors bs=1 seek=50000000 conv=notrunc 2>/dev/null';
SELECT code, message, detail ~ '^Its SHA-256 should be [0-9a-f]{64}, but is [0-9a-f]{64}\.$' AS tells_both, hint
  FROM outcome($$SELECT embed('another text', 'absolute')$$);
SELECT file, state, sha256 = found_sha256 AS same FROM rag_check_model('absolute') WHERE file IN ('model.safetensors', 'config.json') ORDER BY 1;
SELECT file, bytes, found_bytes, state FROM rag_model_files WHERE model = 'absolute' AND file = 'model.safetensors';
COPY (SELECT WHERE false) TO PROGRAM 'truncate -s 1000 test_models/good/model.safetensors';
SELECT file, bytes, found_bytes, state FROM rag_model_files WHERE model = 'absolute' AND state <> 'present';
COPY (SELECT WHERE false) TO PROGRAM 'rm test_models/good/model.safetensors';
SELECT file, bytes, found_bytes, state FROM rag_model_files WHERE model = 'absolute' AND state <> 'present';
SELECT file, state ~ '/model.safetensors" does not exist$' AS missing, found_sha256 FROM rag_check_model('absolute') WHERE state <> 'ok';
SELECT code, message, hint FROM outcome($$SELECT embed('another text', 'absolute')$$);
COPY (SELECT WHERE false) TO PROGRAM 'mv test_models/kept test_models/good/model.safetensors';
SELECT embed('another text', 'absolute') = embed('another text') AS works_again;

-- Links may not lead out of the folder.
COPY (SELECT WHERE false) TO PROGRAM 'cd test_models && cp good/config.json config.json && mv good/config.json kept && ln -s ../config.json good/config.json';
SELECT rag_unload_model('absolute');
SELECT code, message, hint FROM outcome($$SELECT embed('a third text', 'absolute')$$);
SELECT code, message FROM outcome(format($$SELECT rag_add_model('linked', 'embed', %L)$$, :'folder' || '/good'));
COPY (SELECT WHERE false) TO PROGRAM 'cd test_models && mv kept good/config.json';

-- Loading and unloading
SELECT rag_load_model('absolute');
SELECT count(*) FROM rag_loaded_models WHERE name = 'absolute';
SELECT rag_unload_model('absolute');
SELECT count(*) FROM rag_loaded_models WHERE name = 'absolute';

-- A dropped model is gone; its name stays bound to its files.
SELECT rag_drop_model('absolute');
SELECT code, message, hint FROM outcome($$SELECT embed('a text', 'absolute')$$);
SELECT code, message FROM outcome($$SELECT rag_drop_model('absolute')$$);
COPY (SELECT WHERE false) TO PROGRAM 'cd test_models && cp -R good other && printf " " >> other/config.json';
SELECT code, message, detail, hint FROM outcome(format($$SELECT rag_add_model('absolute', 'embed', %L)$$, :'folder' || '/other'));
SELECT rag_add_model('absolute', 'embed', :'folder' || '/good');
SELECT vector_dims(embed('a text', 'absolute'));

-- Options: weights in 8 bits give nearly the same vectors.
SELECT code, message FROM outcome(format($$SELECT rag_add_model('bad', 'embed', %L, '{"dtype": "int3"}')$$, :'folder' || '/good'));
SELECT code, message FROM outcome(format($$SELECT rag_add_model('bad', 'embed', %L, '{"speed": 3}')$$, :'folder' || '/good'));
SELECT rag_add_model('eight_bits', 'embed', :'folder' || '/good', '{"dtype": "int8"}');
SELECT embed('a text about databases', 'eight_bits') <=> embed('a text about databases', 'absolute') BETWEEN 1e-9 AND 0.01 AS close;
SELECT rag_drop_model('eight_bits');

-- What is known of where a model comes from
COPY (SELECT WHERE false) TO PROGRAM 'cd test_models && printf "%s\n" --- "license: bsd-3-clause" --- > good/README.md';
SELECT rag_add_model('from the card', 'embed', :'folder' || '/good', '{"revision": "v1"}');
SELECT rag_add_model('from the options', 'embed', :'folder' || '/good', '{"license": "mit"}');
SELECT name, license, revision, repository, options, granted_to FROM rag_models WHERE license <> 'apache-2.0' ORDER BY name;
SELECT code, message FROM outcome(format($$SELECT rag_add_model('bad', 'embed', %L, '{"license": 3}')$$, :'folder' || '/good'));
SELECT rag_drop_model('from the card'), rag_drop_model('from the options');

-- Nothing is downloaded unless it is allowed.
SELECT code, message, hint FROM outcome($$SELECT rag_download_model('org/tiny')$$);
SET pg_rag.allow_download = on;
SET pg_rag.hub_endpoint = 'file:///etc';
SELECT code, message FROM outcome($$SELECT rag_download_model('org/tiny')$$);
SET pg_rag.hub_endpoint = 'http://127.0.0.1:1';
SET pg_rag.hub_token_file = '/etc/passwd';
SELECT code, message, hint FROM outcome($$SELECT rag_download_model('org/tiny')$$);
RESET pg_rag.hub_token_file;
SELECT code, message FROM outcome($$SELECT rag_download_model('org/../tiny')$$);
SELECT code, message FROM outcome($$SELECT rag_download_model('org/tiny', revision => '../main')$$);
SELECT code, message FROM outcome($$SELECT rag_download_model('org/tiny', 'absolute')$$);
SELECT code, message FROM outcome($$SELECT rag_download_model('org/tiny', kind => 'translate')$$);
SELECT code, message FROM outcome($$SELECT rag_download_model('org/tiny', files => '{NULL}')$$);
SELECT code, message FROM outcome($$SELECT rag_download_model(NULL)$$);
SELECT code, message FROM outcome($$SELECT rag_download_model('org/tiny', options => '[]')$$);
RESET pg_rag.hub_endpoint;
RESET pg_rag.allow_download;

-- Adding a model is part of its transaction.
BEGIN;
SELECT rag_add_model('temporary', 'embed', :'folder' || '/good');
SELECT vector_dims(embed('a text', 'temporary'));
ROLLBACK;
SELECT code, message FROM outcome($$SELECT embed('a text', 'temporary')$$);

-- The server's state
SELECT pid > 0 AS pid, uptime > '0' AS uptime, threads > 0 AS threads, connections > 0 AS connections, queued, generating, resident_bytes > 0 AS resident,
       memory_bytes > 0 AS memory, max_memory_bytes FROM rag_server_status;
SELECT kind, name <> '' AS named, memory_bytes > 0 AS memory, compute_capability, features IS NOT NULL AS features FROM rag_devices WHERE kind = 'cpu';

SELECT rag_drop_model('absolute'), rag_drop_model('relative');
COPY (SELECT WHERE false) TO PROGRAM 'chmod -R u+rwX test_models && rm -rf test_models';
