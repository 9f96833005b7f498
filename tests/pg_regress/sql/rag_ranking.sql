-- Search that ranks anew: rerankers, diversity, neighbours; and conditions, which are one expression.
LOAD 'pg_rag';
CREATE TABLE manuals (id integer PRIMARY KEY, owner name NOT NULL DEFAULT current_user, title text, body text NOT NULL);
INSERT INTO manuals (id, title, body) VALUES
    (1, 'Pump', 'The pump moves water from the well into the tank. Its seal is changed every two years. The impeller is made of brass.'),
    (2, 'Pump again', 'The pump moves water from the well into the tank. Its seal is changed every two years. Its impeller is made of brass.'),
    (3, 'Tank', 'The tank stores the water that the pump brings, 400 litres of it. A float closes the valve when it is full.'),
    (4, 'Filter', 'Clean the filter before each winter, or sand will wear out the bearings.');
SELECT rag_create_index('manuals', 'body', sync => 'manual');
\getenv inputs PG_ABS_SRCDIR
SELECT format('rm -rf test_ranking && mkdir test_ranking && cp -R %s/../data/encoder_families/bert_pair test_ranking', :'inputs') AS copy_model,
       current_setting('data_directory') || '/test_ranking/bert_pair' AS folder \gset
COPY (SELECT WHERE false) TO PROGRAM :'copy_model';
SELECT rag_add_model('tiny-ranker', 'rerank', :'folder');

-- A reranker: its order, its scores. This one has random weights, so its order is not that of the search.
SELECT count(*), bool_and(score = rerank_score) AS is_the_score, bool_and(falls) AS falling,
       bool_and(abs(s.rerank_score - rerank_score('the pump', s.chunk, 'tiny-ranker')) < 1e-4) AS of_the_model,
       bool_and(vector_rank IS NOT NULL) AS ranks_stay
  FROM (SELECT *, score <= coalesce(lag(score) OVER (ORDER BY rank), 'infinity') AS falls FROM rag_search('the pump', rerank_model => 'tiny-ranker')) s;
SELECT count(rerank_score) AS none FROM rag_search('the pump');
SELECT (SELECT source_key FROM rag_search('the pump', k => 1, rerank_model => 'tiny-ranker')) = (SELECT source_key FROM rag_search('the pump', rerank_model => 'tiny-ranker') WHERE rank = 1) AS best_of_all;
-- Of one candidate, that one.
SELECT count(*) FROM rag_search('the pump', k => 1, candidates => 1, mode => 'vector', rerank_model => 'tiny-ranker');
SELECT count(*) FROM rag_search('the pump', where_sql => 'id > 2', rerank_model => 'tiny-ranker');
SELECT count(*) FROM rag_search('the pump', where_sql => 'false', rerank_model => 'tiny-ranker');
SELECT c, code, message, hint FROM unnest(ARRAY['''no-such-model''', '''all-MiniLM-L6-v2''', '''''']) c, outcome(format($$SELECT rag_search('pump', rerank_model => %s)$$, c));
CREATE TABLE questions (question text, relevant jsonb);
INSERT INTO questions VALUES ('When is the filter cleaned?', '4'), ('How much water does the tank hold?', '3');
SELECT a.questions, a.ndcg > 0.9 AS good, b.ndcg < a.ndcg AS random_weights_are_worse, b.recall, b.avg_ms > 0 AS timed
  FROM rag_eval('manuals_rag', 'questions', 4) a, rag_eval('manuals_rag', 'questions', 4, rerank_model => 'tiny-ranker') b;
SELECT jsonb_array_length(sources) FROM rag_ask('How much water does the tank hold?', k => 2, max_tokens => 1, context_sentences => NULL, rerank_model => 'tiny-ranker');

-- Diversity: the copy of the best gives way to what says something else.
SELECT array_agg(source_key->>'id' ORDER BY rank) FROM rag_search('What does the pump move?', k => 2, mode => 'vector');
SELECT array_agg(source_key->>'id' ORDER BY rank) FILTER (WHERE source_key->>'id' IN ('1', '2')) AS of_the_twins FROM rag_search('What does the pump move?', k => 2, mode => 'vector', mmr_lambda => 0.5);
SELECT m, (SELECT array_agg(source_key ORDER BY rank) FROM rag_search('What does the pump move?', mode => m, mmr_lambda => 1)) = (SELECT array_agg(source_key ORDER BY rank) FROM rag_search('What does the pump move?', mode => m)) AS relevance_alone
  FROM unnest(ARRAY['vector', 'text', 'hybrid']) m;
SELECT count(*), count(DISTINCT source_key) FROM rag_search('What does the pump move?', mmr_lambda => 0, rerank_model => 'tiny-ranker');
SELECT c, code, message FROM unnest(ARRAY['1.01', '-0.1', '''NaN''']) c, outcome(format($$SELECT rag_search('pump', mmr_lambda => %s)$$, c));

-- Neighbours: the chunks before and after, as one text of the row.
CREATE TABLE novels (id integer PRIMARY KEY, body text NOT NULL);
INSERT INTO novels SELECT n, string_agg(format('%s number %s of novel %s was read by nobody.', CASE WHEN s = 15 THEN 'The hippopotamus in chapter' ELSE 'Chapter' END, s, n), E'\n\n' ORDER BY s) FROM generate_series(1, 3) n, generate_series(1, 30) s GROUP BY n;
SELECT rag_create_index('novels', 'body', name => 'shelf', chunking => '{"strategy": "sentence", "size": 40, "overlap": 20}', sync => 'manual');
SELECT n, count(*) AS hits, bool_and(regexp_replace(substr(b.body, s.char_start + 1, s.char_end - s.char_start), '\s', ' ', 'g') = regexp_replace(s.chunk, '\s', ' ', 'g')) AS offsets,
       max(length(chunk)) > 60 + n * 60 AS longer, count(*) FILTER (WHERE chunk LIKE '%hippopotamus%') > 0 AS found
  FROM unnest(ARRAY[0, 1, 3]) n, rag_search('hippopotamus', 'shelf', k => 4, neighbors => n) s JOIN novels b ON b.id = (s.source_key->>'id')::integer GROUP BY n ORDER BY n;
-- No chunk is in two results.
SELECT n, count(*) AS hits, bool_and(NOT EXISTS (SELECT FROM rag_search('chapter', 'shelf', k => 6, neighbors => n) t WHERE t.source_key = s.source_key AND t.rank <> s.rank AND t.chunk_seq BETWEEN s.chunk_seq - n AND s.chunk_seq + n)) AS apart
  FROM unnest(ARRAY[1, 2]) n, rag_search('chapter', 'shelf', k => 6, neighbors => n) s GROUP BY n ORDER BY n;
SELECT bool_and(s.chunk = b.body) AS whole_rows, count(*) FROM rag_search('chapter', 'shelf', k => 1, neighbors => 20) s JOIN novels b ON s.char_start = 0 AND b.id = (s.source_key->>'id')::integer WHERE s.char_end = length(b.body);
SELECT code, message FROM outcome($$SELECT rag_search('pump', 'shelf', neighbors => -1)$$);
SELECT code, message FROM outcome($$SELECT rag_search('pump', 'shelf', neighbors => 21)$$);
SELECT code, message FROM outcome($$SELECT rag_search('pump', 'shelf', neighbors => NULL)$$);
SELECT length(a.sources->0->>'chunk') < length(b.sources->0->>'chunk') AS longer_source
  FROM rag_ask('Who read of the hippopotamus?', 'shelf', k => 1, max_tokens => 1) a, rag_ask('Who read of the hippopotamus?', 'shelf', k => 1, max_tokens => 1, neighbors => 2) b;
SELECT rag_answer('Who read of the hippopotamus?', 'shelf', k => 1, max_tokens => 8, neighbors => 1) <> '' AS answered,
       (SELECT count(*) > 0 FROM rag_answer_stream('Who read of the hippopotamus?', 'shelf', k => 1, max_tokens => 8, neighbors => 1, context_sentences => NULL)) AS streamed;
SELECT rag_drop_index('shelf');

-- Row security holds for all of it.
CREATE ROLE regress_rag_reader;
GRANT SELECT ON manuals TO regress_rag_reader;
UPDATE manuals SET owner = 'regress_rag_reader' WHERE id = 3;
ALTER TABLE manuals ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON manuals USING (owner = current_user);
SET ROLE regress_rag_reader;
SELECT source_key FROM rag_search('the pump', 'manuals_rag', rerank_model => 'tiny-ranker', mmr_lambda => 0.5, neighbors => 3);
RESET ROLE;
ALTER TABLE manuals DISABLE ROW LEVEL SECURITY;

-- A condition is one expression: whatever would need the parentheses around it, or more than one statement, is refused.
SELECT c, code, message, detail FROM unnest(ARRAY['true) OR (true', 'false) UNION SELECT * FROM manuals WHERE (true', 'true; DROP TABLE manuals', 'true;',
    'true, false', 'true AS x', 'true x', '*', '', '   ', '-- nothing', '/* open', 'true /* open', 'true FROM manuals', 'true INTO TABLE t', 'true LIMIT 1', 'true FOR UPDATE',
    'true GROUP BY id', 'true ORDER BY id', 'DISTINCT true', 'ALL true', 'WITH x AS (SELECT 1) SELECT true', 'true UNION SELECT false', ''' unclosed', '$$ unclosed', E'true\\;', 'true)--']) c,
    outcome(format('SELECT count(*) FROM rag_search(''pump'', ''manuals_rag'', where_sql => %L)', c));
-- One expression, but not a condition of this table
SELECT c, code, message FROM unnest(ARRAY['id', '$2', 'id = $2', '$3 > 0', '$0', 'c.chunk_id > 0', 's.id > 0', 'manuals_rag.id > 0', 'count(*) > 0', 'id > (WITH d AS (DELETE FROM manuals RETURNING 1) SELECT 1)', 'rank() OVER () > 1', 'no_such_function(id)']) c,
    outcome(format('SELECT count(*) FROM rag_search(''pump'', ''manuals_rag'', where_sql => %L)', c));
-- Conditions: comments, line ends, sub-selects, values of any kind
SELECT c, (SELECT count(*) FROM rag_search('pump', 'manuals_rag', where_sql => c, where_args => '{"id": 1, "title": "x'') OR (''a''=''a"}')) FROM unnest(ARRAY['true', '(true)', E'id > 2 -- more\n', E'id\n>\n2', 'id /* ) */ > 2',
    'id = ($1->>''id'')::integer', 'title = $1->>''title''', '$1 IS NOT NULL', 'EXISTS (SELECT FROM questions)', 'title = ''); DROP TABLE manuals; --''', 'id IN (1, 2) OR title ~ ''k$''', 'manuals.id > 2', 'NULL', 'CASE WHEN id > 1 THEN false ELSE true END']) c;
SELECT count(*) AS still_there FROM manuals;
-- The same in answers
SELECT code, message FROM outcome($$SELECT rag_answer('pump', 'manuals_rag', where_sql => 'true) OR (true')$$);

SELECT rag_drop_index('manuals_rag');
SELECT rag_drop_model('tiny-ranker');
COPY (SELECT WHERE false) TO PROGRAM 'rm -rf test_ranking';
DROP TABLE manuals, novels, questions;
DROP ROLE regress_rag_reader;
