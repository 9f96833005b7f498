-- Search by vectors and words, answers that quote, and the quality of an index.
CREATE TABLE parts (id integer PRIMARY KEY, owner name NOT NULL DEFAULT current_user, body text NOT NULL);
INSERT INTO parts (id, body) VALUES
    (1, 'The pump moves water from the well into the tank. It needs a new seal every two years.'),
    (2, 'Part XQ-7731 is the seal of the pump. Order it from the stores before the old one leaks.'),
    (3, 'The tank holds 400 litres. A float closes the valve when it is full.'),
    (4, 'Clean the filter of the pump each spring, or sand will wear out the impeller.'),
    (5, 'Ada Lovelace was born in London in 1815. She wrote the first program for a machine. The machine was never built.');
SELECT rag_create_index('parts', 'body', fts_config => 'english', sync => 'manual');
SELECT fts_config FROM rag_indexes;
SELECT am.amname FROM rag_indexes r JOIN pg_index i ON i.indrelid = r.chunks JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam ORDER BY 1;

-- A word that no vector knows
SELECT source_key, vector_rank IS NULL AS no_vector_rank, text_rank, score > 0 AS scored FROM rag_search('XQ-7731', mode => 'text');
SELECT source_key, text_rank, score > 0 AND score <= 1 AS share FROM rag_search('order XQ-7731', k => 1);
SELECT source_key, text_rank FROM rag_search('Who invented software?', k => 1, mode => 'vector');
SELECT count(*) FROM rag_search('the of and', mode => 'text');
SELECT count(*) FROM rag_search('', mode => 'text');
SELECT count(*) FROM rag_search('xylophone', mode => 'text');
-- Word forms count; more of the words count more.
SELECT array_agg(source_key->>'id' ORDER BY rank) FROM rag_search('cleaning pumps', mode => 'text');
-- Any text is a question.
SELECT count(*) > 0 AS found FROM unnest(ARRAY['pump''s & !seal', 'pump <-> \ :*A', 'pump '''' | (', E'pump\n\t\\x']) q, rag_search(q, mode => 'text');

-- Both lists
SELECT rank, source_key, vector_rank IS NOT NULL AS near, text_rank IS NOT NULL AS worded FROM rag_search('seal of the pump', k => 3) WHERE rank <= 2 ORDER BY source_key;
SELECT bool_and(falls) AS falling_scores, count(*) FROM (SELECT score <= coalesce(lag(score) OVER (ORDER BY rank), 1) AS falls FROM rag_search('pump', k => 5)) s;
SELECT (SELECT array_agg(source_key ORDER BY rank) FROM rag_search('pump', vector_weight => 1)) = (SELECT array_agg(source_key ORDER BY rank) FROM rag_search('pump', mode => 'vector')) AS vectors_alone;
SELECT count(*) FROM rag_search('pump', min_score => 0.999);
SELECT count(*) FROM rag_search('pump', where_sql => 'id > 3', mode => 'text');
SELECT c, code, message FROM unnest(ARRAY['mode => ''both''', 'mode => NULL', 'candidates => 0', 'per_source => 0', 'vector_weight => 1.5', 'vector_weight => ''NaN''', 'vector_weight => NULL', 'rrf_k => -1']) c,
    outcome(format('SELECT count(*) FROM rag_search(''pump'', %s)', c));

-- Several chunks of a row
CREATE TABLE long_parts (id integer PRIMARY KEY, body text);
INSERT INTO long_parts SELECT i, string_agg('Valve ' || i || ' sentence ' || j || ' is about the valve number ' || i || '.', ' ' ORDER BY j) FROM generate_series(1, 3) i, generate_series(1, 30) j GROUP BY i;
SELECT rag_create_index('long_parts', 'body', name => 'valves', chunking => '{"strategy": "sentence", "size": 40, "overlap": 0}', sync => 'manual');
SELECT max(n) > 1 AS several FROM (SELECT count(*) AS n FROM rag_search('valve', 'valves', 9) GROUP BY source_key) s;
SELECT count(*), count(DISTINCT source_key) FROM rag_search('valve', 'valves', 9, per_source => 1);
SELECT count(*), max(n) FROM (SELECT count(*) AS n FROM rag_search('valve', 'valves', 6, per_source => 2) GROUP BY source_key) s;
SELECT rag_drop_index('valves');

-- Words are kept up to date.
UPDATE parts SET body = body || ' Its colour is turquoise.' WHERE id = 3;
SELECT count(*) FROM rag_search('turquoise', mode => 'text');
SELECT embedded FROM rag_refresh('parts_rag');
SELECT source_key FROM rag_search('turquoise', mode => 'text');

-- Row security: words find, count and rank only what may be seen.
CREATE ROLE regress_rag_reader;
GRANT SELECT ON parts TO regress_rag_reader;
UPDATE parts SET owner = 'regress_rag_reader' WHERE id IN (1, 3);
ALTER TABLE parts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON parts USING (owner = current_user);
SET ROLE regress_rag_reader;
SELECT source_key FROM rag_search('pump', mode => 'text');
SELECT source_key FROM rag_search('pump') ORDER BY 1;
SELECT count(*) FROM rag_search('XQ-7731', mode => 'text');
SELECT answer, grounded FROM rag_ask('XQ-7731?', mode => 'text');
RESET ROLE;
ALTER TABLE parts DISABLE ROW LEVEL SECURITY;

-- Answers: few sentences go to the model, and citations quote them, at their place in the text.
SELECT jsonb_array_length(citations) > 0 AS cited, (usage->>'prompt_tokens')::integer < 150 AS short_prompt,
       (SELECT bool_and(substr(p.body, (c->>'char_start')::integer + 1, (c->>'char_end')::integer - (c->>'char_start')::integer) = c->>'quote')
          FROM jsonb_array_elements(citations) c JOIN parts p ON p.id = (c->'source_key'->>'id')::integer) AS quotes_are_in_the_rows,
       (SELECT bool_and((c->>'support')::real BETWEEN 0.5 AND 1) FROM jsonb_array_elements(citations) c WHERE c->'sentences' <> '[]') AS supported,
       (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(citations->0) k) AS fields
  FROM rag_ask('How many litres does the tank hold?', context_sentences => 2, max_tokens => 40);
SELECT (a.usage->>'prompt_tokens')::integer < (b.usage->>'prompt_tokens')::integer AS shorter_than_whole_passages
  FROM rag_ask('How many litres does the tank hold?', context_sentences => 1, max_tokens => 1) a, rag_ask('How many litres does the tank hold?', context_sentences => NULL, max_tokens => 1) b;
-- A pronoun takes the sentence along that it refers to.
SELECT sources->0->>'chunk' LIKE '%Ada Lovelace%' AS the_row FROM rag_ask('Who wrote the first program for a machine?', context_sentences => 1, k => 1, max_tokens => 1);
-- Nothing in the sources
SELECT grounded FROM rag_ask('What is the capital of France?', max_tokens => 20);
SELECT code, message FROM outcome($$SELECT rag_answer('pump', context_sentences => 0)$$);

-- The same, piece by piece
SELECT string_agg(piece, '') = rag_answer('How many litres does the tank hold?', max_tokens => 80) AS same, count(*) > 1 AS in_pieces FROM rag_answer_stream('How many litres does the tank hold?', max_tokens => 80) piece;
SELECT * FROM rag_answer_stream('pump', where_sql => 'false');
SELECT count(*) FROM rag_answer_stream(NULL);

-- The quality of an index
CREATE TABLE questions (question text, relevant jsonb);
INSERT INTO questions VALUES ('What is part XQ-7731?', '[2]'), ('When must the filter be cleaned?', '4'), ('How much water fits into the tank?', '[{"id": 3}]'), ('nothing', NULL), (NULL, '[1]');
SELECT m, questions, recall, mrr >= 0.5 AS mrr, ndcg BETWEEN 0.5 AND 1 AS ndcg, round("precision"::numeric, 2) AS precision, avg_ms > 0 AND p95_ms >= avg_ms / 2 AS timed
  FROM unnest(ARRAY['hybrid', 'vector']) m, rag_eval('parts_rag', 'questions', 3, m);
SELECT code, message, hint FROM outcome($$SELECT rag_eval('parts_rag', 'parts')$$);
TRUNCATE questions;
SELECT code, message, hint FROM outcome($$SELECT rag_eval('parts_rag', 'questions')$$);

-- Another configuration
SELECT rag_drop_index('parts_rag');
SELECT rag_create_index('parts', 'body', fts_config => 'simple', sync => 'manual');
SELECT count(*) FROM rag_search('pumps', mode => 'text');
SELECT code, message FROM outcome($$SELECT rag_create_index('parts', 'body', name => 'x', fts_config => 'no_such_config')$$);
SELECT rag_drop_index('parts_rag');
DROP TABLE parts, long_parts, questions;
DROP ROLE regress_rag_reader;
