-- Models that run elsewhere: foreign servers, options, rights. Nothing here answers; tests/cluster has servers that do.
CREATE ROLE regress_remote_admin;
CREATE ROLE regress_remote_user;

-- Off until a superuser allows it
SELECT fdwname, fdwhandler, fdwvalidator::regproc, fdwacl FROM pg_foreign_data_wrapper WHERE fdwname = 'pg_rag_remote';
SELECT count(*) AS servers FROM pg_foreign_server;
SELECT code, message, hint FROM outcome($$SELECT rag_add_model('gpt', 'generate', 'remote:nowhere', '{"model": "m"}')$$);
SET ROLE regress_remote_admin;
SELECT code, message FROM outcome($$CREATE SERVER theirs FOREIGN DATA WRAPPER pg_rag_remote OPTIONS (base_url 'https://models.example/v1')$$);
RESET ROLE;

-- Options of a server
SELECT o, code, message, hint FROM unnest(ARRAY[
    '', $$base_url ''$$, $$base_url 'models.example'$$, $$base_url 'ftp://models.example'$$, $$base_url 'https://user:secret@models.example/v1'$$,
    $$base_url 'https://models.example/v1?key=secret'$$, $$base_url 'https://models.example:0'$$, $$base_url 'http://models.example/v1'$$,
    $$base_url 'http://10.0.0.1/v1', allow_http 'false'$$, $$base_url 'https://models.example', timeout_ms '0'$$,
    $$base_url 'https://models.example', timeout_ms '1 s'$$, $$base_url 'https://models.example', max_response_bytes '-1'$$,
    $$base_url 'https://models.example', max_retries '11'$$, $$base_url 'https://models.example', allow_http 'maybe'$$,
    $$base_url 'https://models.example', ca_file 'ca.pem'$$, $$base_url 'https://models.example', api_key 'sk-secret'$$,
    $$base_url 'https://models.example', api_key_file '/key'$$, $$host 'models.example'$$]) o,
  outcome('CREATE SERVER bad FOREIGN DATA WRAPPER pg_rag_remote OPTIONS (' || o || ')') WHERE o <> '';
SELECT code, message, hint FROM outcome('CREATE SERVER bad FOREIGN DATA WRAPPER pg_rag_remote');
SELECT code, message, hint FROM outcome($$ALTER FOREIGN DATA WRAPPER pg_rag_remote OPTIONS (ADD base_url 'https://models.example')$$);
CREATE SERVER near FOREIGN DATA WRAPPER pg_rag_remote OPTIONS (base_url 'http://127.0.0.1:1/v1', max_retries '0');
CREATE SERVER far FOREIGN DATA WRAPPER pg_rag_remote
    OPTIONS (base_url 'http://models.example/v1', allow_http 'true', timeout_ms '2000', max_response_bytes '1000000', ca_file '/etc/ca.pem');
SELECT code, message FROM outcome($$ALTER SERVER far OPTIONS (DROP base_url)$$);
SELECT code, message FROM outcome($$ALTER SERVER far OPTIONS (DROP allow_http)$$);
SELECT code, message, hint FROM outcome($$CREATE FOREIGN TABLE t (a text) SERVER near OPTIONS (path '/models')$$);

-- User mappings: what names a file is for superusers.
SELECT o, code, message, hint FROM unnest(ARRAY[$$api_key 'sk-secret'$$, $$user 'a'$$, $$api_key_file 'key'$$, $$api_key_file ''$$]) o,
  outcome('CREATE USER MAPPING FOR PUBLIC SERVER near OPTIONS (' || o || ')');
GRANT USAGE ON FOREIGN SERVER near TO regress_remote_user;
SET ROLE regress_remote_user;
SELECT code, message, detail FROM outcome($$CREATE USER MAPPING FOR CURRENT_USER SERVER near OPTIONS (api_key_file '/etc/passwd')$$);
CREATE USER MAPPING FOR CURRENT_USER SERVER near;
SELECT code, message, detail FROM outcome($$ALTER USER MAPPING FOR CURRENT_USER SERVER near OPTIONS (ADD api_key_file '/etc/passwd')$$);
RESET ROLE;
SET ROLE regress_remote_admin;
SELECT code, message FROM outcome($$ALTER SERVER near OPTIONS (SET base_url 'https://elsewhere.example')$$);
RESET ROLE;

-- Registering; the server is asked only if the length of its vectors is not told.
SELECT rag_add_model('far vectors', 'embed', 'remote:near', '{"model": "text-embedding-3-small", "dimensions": 1536, "max_tokens": 8191}');
SELECT rag_add_model('far answers', 'generate', 'remote:near', '{"model": "gpt", "max_tokens": 128000, "request": {"user": "db"}}');
SELECT rag_add_model('far scores', 'rerank', 'remote:near', '{"model": "rerank-v3"}');
SELECT name, kind, architecture, dimensions, max_tokens, parameters, size_bytes, quantization, source, options FROM rag_models WHERE source LIKE 'remote:%' ORDER BY name;
SELECT code, message FROM outcome($$SELECT rag_add_model('far answers', 'generate', 'remote:near', '{"model": "m"}')$$);
SELECT k, o, code, message FROM (VALUES ('embed', '{}'), ('embed', '{"model": "m", "dimensions": 0}'), ('embed', '{"model": "m", "dims": 3}'),
    ('generate', '{"model": ["m"]}'), ('generate', '{"model": "m", "request": {"messages": []}}'), ('rerank', '{"model": "m", "batch": 0}'),
    ('embed', '{"model": "unreachable"}')) v (k, o),
  outcome(format($$SELECT rag_add_model('bad', %L, 'remote:near', %L)$$, k, o));
SELECT code, message FROM outcome($$SELECT rag_add_model('bad', 'generate', 'remote:', '{"model": "m"}')$$);
CREATE FOREIGN DATA WRAPPER regress_other;
CREATE SERVER other FOREIGN DATA WRAPPER regress_other;
SELECT code, message FROM outcome($$SELECT rag_add_model('bad', 'generate', 'remote:other', '{"model": "m"}')$$);
DROP FOREIGN DATA WRAPPER regress_other CASCADE;

-- Nobody answers
SELECT code, message, hint FROM outcome($$SELECT embed('a text', 'far vectors')$$);
SELECT code, message FROM outcome($$SELECT embed(ARRAY['a', 'b'], 'far vectors')$$);
SELECT code, message FROM outcome($$SELECT generate('Say hello.', 'far answers')$$);
SELECT code, message FROM outcome($$SELECT count(*) FROM generate_stream('Say hello.', 'far answers')$$);
SELECT code, message FROM outcome($$SELECT chat('[{"role": "user", "content": "Hello"}]', 'far answers')$$);
SELECT code, message FROM outcome($$SELECT rerank_score('a', 'b', 'far scores')$$);
SELECT embed(ARRAY[]::text[], 'far vectors') AS nothing_to_ask;

-- Addresses that this machine does not go to, also where a name leads there
ALTER SERVER far OPTIONS (SET base_url 'https://169.254.169.254/latest', DROP ca_file);
SELECT code, message, hint FROM outcome($$SELECT rag_add_model('bad', 'embed', 'remote:far', '{"model": "m"}')$$);
ALTER SERVER far OPTIONS (SET base_url 'https://[fe80::1]/v1');
SELECT code, message FROM outcome($$SELECT rag_add_model('bad', 'embed', 'remote:far', '{"model": "m"}')$$);
ALTER SERVER far OPTIONS (SET base_url 'http://0.0.0.0/v1');
SELECT code, message FROM outcome($$SELECT rag_add_model('bad', 'embed', 'remote:far', '{"model": "m"}')$$);

-- Tokens are estimated; files are not here.
SELECT token_count('Partial indexes, 12345!', 'far answers');
SELECT seq, content, tokens FROM chunk('One two three. Four five six. Seven eight nine.', size => 8, "overlap" => 0, model => 'far vectors');
SELECT s, code, message, hint FROM unnest(ARRAY[
    $$SELECT tokenize('a', 'far answers')$$, $$SELECT detokenize('{1}', 'far answers')$$, $$SELECT count(*) FROM embed_tokens('a', 'far vectors')$$,
    $$SELECT rag_load_model('far answers')$$, $$SELECT count(*) FROM rag_model_memory('far answers')$$, $$SELECT rag_quantize_model('far answers', 'small', 'q8_0')$$]) s,
  outcome(s);
SELECT rag_unload_model('far answers');

-- Rights: of the current user, at every call
SET ROLE regress_remote_user;
SELECT code, message FROM outcome($$SELECT generate('Say hello.', 'far answers')$$);
SELECT token_count('Partial indexes', 'far answers');
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER near FROM regress_remote_user;
SET ROLE regress_remote_user;
SELECT s, code, message FROM unnest(ARRAY[$$SELECT generate('Say hello.', 'far answers')$$, $$SELECT embed('a', 'far vectors')$$,
    $$SELECT rerank_score('a', 'b', 'far scores')$$, $$SELECT token_count('a', 'far answers')$$]) s, outcome(s);
RESET ROLE;

-- A key is sent to servers of superusers only: others could change the address.
CREATE USER MAPPING FOR PUBLIC SERVER near OPTIONS (api_key_file '/nonexistent/key');
SELECT code, message, hint FROM outcome($$SELECT generate('Say hello.', 'far answers')$$);
GRANT USAGE ON FOREIGN DATA WRAPPER pg_rag_remote TO regress_remote_admin;
ALTER SERVER near OWNER TO regress_remote_admin;
SELECT code, message, hint FROM outcome($$SELECT generate('Say hello.', 'far answers')$$);
DROP USER MAPPING FOR PUBLIC SERVER near;
SELECT code FROM outcome($$SELECT generate('Say hello.', 'far answers')$$);
SET ROLE regress_remote_admin;
CREATE SERVER theirs FOREIGN DATA WRAPPER pg_rag_remote OPTIONS (base_url 'https://models.example/v1');
SELECT code, message, detail FROM outcome($$ALTER SERVER theirs OPTIONS (ADD ca_file '/etc/passwd')$$);
RESET ROLE;
ALTER SERVER near OWNER TO CURRENT_USER;

-- Servers that models use stay.
SELECT code, message, detail, hint FROM outcome('DROP SERVER near CASCADE');
SELECT code, message, detail FROM outcome('ALTER SERVER near RENAME TO nearer');
SELECT code, message FROM outcome('DROP FOREIGN DATA WRAPPER pg_rag_remote CASCADE');
SELECT rag_drop_model(name) FROM rag_models WHERE source LIKE 'remote:%' ORDER BY name;
ALTER SERVER near RENAME TO nearer;
SELECT rag_add_model('far answers', 'generate', 'remote:nearer', '{"model": "gpt", "max_tokens": 128000, "request": {"user": "db"}}');
SELECT code, message FROM outcome($$SELECT rag_add_model('far vectors', 'embed', 'remote:nearer', '{"model": "another", "dimensions": 1536}')$$);
SELECT rag_drop_model('far answers');
DROP SERVER nearer CASCADE;
DROP SERVER far;
DROP SERVER theirs;
REVOKE USAGE ON FOREIGN DATA WRAPPER pg_rag_remote FROM regress_remote_admin;
DROP ROLE regress_remote_admin, regress_remote_user;
