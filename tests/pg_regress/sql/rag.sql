-- Indexes over documents, search and answers.
CREATE TABLE articles (id integer PRIMARY KEY, title text NOT NULL, lang text NOT NULL DEFAULT 'en', body text);
INSERT INTO articles (id, title, body) VALUES
    (1, 'Bread', 'Bread is made of flour, water, yeast and salt. The dough is kneaded, rises for an hour in a warm place, and is then baked in a hot oven.'),
    (2, 'Moon', 'The moon goes round the earth once in about a month. It always shows us the same side, and its gravity causes the tides of the sea.'),
    (3, 'Bicycle', 'A bicycle stays upright because its rider steers into the fall. Most bicycles have two wheels, pedals, a chain and a saddle.'),
    (4, 'Vaccines', 'A vaccine teaches the immune system to recognise a virus before the virus comes. Antibodies then stop the infection early.'),
    (5, 'B-trees', 'A B-tree index keeps its keys in sorted order in pages of a fixed size. A database uses it to find rows by equality and by range.'),
    (6, 'Penguins', 'Penguins are birds that cannot fly but swim well. Emperor penguins breed on the ice of the Antarctic in winter.'),
    (7, 'Violin', 'A violin has four strings, which are played with a bow of horse hair. Its body of spruce and maple makes the sound loud.'),
    (8, 'Volcano', '<!DOCTYPE html><html><head><title>x</title><script>var hidden;</script></head><body><h1>Volcano</h1><p>A volcano throws out <b>lava</b>, ash and gases from a chamber of magma below.</p></body></html>'),
    (9, 'Empty', ''),
    (10, 'Nothing', NULL);

-- No index yet
SELECT code, message, hint FROM outcome($$SELECT rag_search('bread')$$);
SELECT code, message, hint FROM outcome($$SELECT rag_answer('bread')$$);
SELECT code, message, hint FROM outcome($$SELECT rag_search('bread', 'articles')$$);

-- Tables and columns that cannot be indexed
CREATE TABLE keyless (body text);
CREATE TABLE taken (id integer PRIMARY KEY, body text, chunk text);
CREATE VIEW a_view AS SELECT * FROM articles;
SELECT c, code, message, hint FROM unnest(ARRAY[
    $$'keyless', 'body'$$, $$'taken', 'body'$$, $$'a_view', 'body'$$, $$'articles', 'id'$$, $$'articles', 'missing'$$,
    $$'no_such_table', 'body'$$, $$'articles', 'body', model => 'unknown'$$, $$'articles', 'body', model => 'SmolLM2-135M-Instruct'$$,
    $$'articles', 'body', template => 'no place for the text'$$, $$'articles', 'body', template => '{missing}: {chunk}'$$,
    $$'articles', 'body', chunking => '{"size": 0}'$$, $$'articles', 'body', chunking => '{"size": 300}'$$,
    $$'articles', 'body', chunking => '{"colour": 1}'$$, $$'articles', 'body', chunking => '[]'$$,
    $$'articles', 'body', name => 'articles'$$]) c,
    outcome(format('SELECT rag_create_index(%s)', c));
SELECT code = '22004' AS null_is_refused FROM outcome($$SELECT rag_create_index(NULL, 'body')$$);
CREATE ROLE regress_rag_stranger;
GRANT SELECT ON articles TO regress_rag_stranger;
SET ROLE regress_rag_stranger;
SELECT code, message FROM outcome($$SELECT rag_create_index('articles', 'body')$$);
RESET ROLE;
SELECT count(*) AS nothing_left FROM pg_class WHERE relname LIKE '%rag\_chunks%' OR relname LIKE '%\_rag';

-- An index
SELECT rag_create_index('articles', 'body', sync => 'manual');
SELECT index, source, column_name, chunks, model, strategy, size, overlap, unit, template FROM rag_indexes;
SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'articles_rag' ORDER BY ordinal_position;
SELECT id, title, chunk_seq, char_start, char_end > 20 AS some_text, tokens > 5 AS counted, headings, vector_dims(embedding)
  FROM articles_rag ORDER BY id, chunk_seq;
SELECT bool_and(chunk = body) AS short_texts_are_one_chunk FROM articles_rag WHERE id < 8;
SELECT chunk FROM articles_rag WHERE id = 8;
SELECT code, message, hint FROM outcome($$SELECT rag_create_index('articles', 'body')$$);
SELECT rag_create_index('articles', 'body', if_not_exists => true);

-- Search
SELECT q, s.source_key, s.chunk_seq, s.metadata->>'title' AS title, s.score BETWEEN 0.2 AND 1 AS score, abs(s.score + s.distance - 1) < 1e-5 AS distance
  FROM unnest(ARRAY['How do I bake a loaf?', 'What causes the tides?', 'Why does a bike not fall over?',
                    'How does an inoculation protect from illness?', 'Which flightless animals live in the cold?',
                    'Where does lava come from?']) WITH ORDINALITY u(q, n),
       rag_search(q, k => 1, mode => 'vector') s ORDER BY n;
SELECT array_agg(rank ORDER BY rank) = ARRAY[1, 2, 3, 4, 5] AS ranks, count(DISTINCT source_key) AS rows, bool_and(falls) AS falling_scores
  FROM (SELECT rank, source_key, score <= coalesce(lag(score) OVER (ORDER BY rank), 1) AS falls FROM rag_search('music', 'articles_rag', 5)) s;
SELECT count(*) FROM rag_search('music', k => 100);
SELECT count(*) FROM rag_search('violin', min_score => 0.99);
SELECT count(*) FROM rag_search(NULL);
SELECT code, message FROM outcome($$SELECT rag_search('music', k => 0)$$);
SELECT code, message FROM outcome($$SELECT rag_search('music', k => 1001)$$);

-- The same as plain SQL
SELECT id FROM articles_rag ORDER BY embedding <=> embed_query('What causes the tides?') LIMIT 1;
SELECT id FROM articles_rag WHERE id > 2 AND lang = 'en' ORDER BY embedding <=> embed_query('What causes the tides?') LIMIT 1;

-- Conditions on the source table
SELECT source_key FROM rag_search('What causes the tides?', k => 1, where_sql => 'id <> 2 AND title LIKE ''B%''');
SELECT source_key FROM rag_search('music', where_sql => 'id = ($1->>''id'')::integer', where_args => '{"id": 7}');
SELECT count(*) FROM rag_search('music', where_sql => 'false');
SELECT source_key FROM rag_search('music', where_sql => 'title = ''Violin'' -- a comment');
SELECT c, code, message FROM unnest(ARRAY['no_column = 1', 'id = ', 'true; DROP TABLE articles', 'id', 'chunk_seq = 1']) c,
    outcome(format('SELECT count(*) FROM rag_search(''music'', where_sql => %L)', c));

-- Refresh embeds only what changed.
SELECT chunks, embedded, removed_rows FROM rag_refresh('articles_rag');
UPDATE articles SET body = replace(body, 'hot', 'very hot') WHERE id = 1;
UPDATE articles SET lang = 'de' WHERE id = 2;
DELETE FROM articles WHERE id = 3;
UPDATE articles SET body = NULL WHERE id = 4;
INSERT INTO articles (id, title, body) VALUES (11, 'Tea', 'Green tea is brewed with water that does not boil, for about two minutes.');
SELECT chunks, embedded, removed_rows FROM rag_refresh('articles_rag');
SELECT chunks, embedded, removed_rows FROM rag_refresh('articles_rag');
SELECT rows = 0 AS empty_text_is_settled FROM rag_refresh('articles_rag');
SELECT array_agg(DISTINCT id ORDER BY id) FROM articles_rag;
SELECT source_key FROM rag_search('How hot should water for tea be?', k => 1);
SELECT code, message, hint FROM outcome($$SELECT rag_refresh('articles')$$);

-- A long text: a change of its end embeds the end again, and moves nothing else.
CREATE TABLE books (shelf text, number integer, body varchar, PRIMARY KEY (shelf, number));
INSERT INTO books SELECT 'first "quoted"', 1, string_agg('Sentence ' || i || ' of the book is about the number ' || i * 7 || '.', ' ' ORDER BY i) FROM generate_series(1, 200) i;
SELECT rag_create_index('books', 'body', name => 'book index', chunking => '{"strategy": "sentence", "size": 64, "overlap": 0}', template => '{shelf}: {chunk}', sync => 'manual');
SELECT count(*) > 20 AS many, bool_and(substr(body, char_start + 1, char_end - char_start) = chunk) AS offsets, bool_and(tokens <= 64) AS fit FROM "book index";
UPDATE books SET body = body || ' It has one more sentence.';
SELECT rows, chunks > 20 AS stored_many, embedded <= 2 AS embedded_the_end FROM rag_refresh('"book index"');
SELECT source_key FROM rag_search('sentence', '"book index"', k => 1);
UPDATE books SET shelf = 'second';
SELECT rows, embedded > 20 AS new_input, removed_rows FROM rag_refresh('"book index"');

-- Several indexes
SELECT code, message, detail, hint FROM outcome($$SELECT rag_search('bread')$$);
SET pg_rag.default_index = 'articles_rag';
SELECT source_key FROM rag_search('bread', k => 1);
SET pg_rag.default_index = 'no_such_index';
SELECT code, message, hint FROM outcome($$SELECT rag_search('bread')$$);
RESET pg_rag.default_index;
SELECT rag_drop_index('"book index"');

-- Answers
SELECT answer <> '' AS answered, jsonb_typeof(citations) AS citations, jsonb_array_length(sources) AS sources,
       sources->0->'source_key' AS first_source, sources->0->>'title' AS title, (sources->0->>'score')::real BETWEEN 0 AND 1 AS score,
       NOT grounded OR jsonb_array_length(citations) > 0 AS grounded_means_cited,
       (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(sources->0) k) AS source_fields,
       (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(usage) k) AS usage_fields,
       (usage->>'prompt_tokens')::integer > 50 AS prompt_counted, (usage->>'completion_tokens')::integer BETWEEN 1 AND 40 AS answer_counted
  FROM rag_ask('What is bread made of?', k => 3, max_tokens => 40);
SELECT rag_answer('What is bread made of?', k => 1, max_tokens => 40) ~* 'flour' AS right_answer;
SELECT rag_answer('What is bread made of?', k => 1, max_tokens => 40) = rag_answer('What is bread made of?', k => 1, max_tokens => 40) AS stable;
SELECT answer, citations, sources, grounded FROM rag_ask('What is bread made of?', where_sql => 'false');
SELECT rag_answer(NULL), (SELECT count(*) FROM rag_ask(NULL)) AS rows;
SELECT rag_answer_from('What is bread made of?', ARRAY['Bread is made of flour, water, yeast and salt.', NULL], max_tokens => 40) ~ 'flour' AS from_passages;
SELECT rag_answer_from('What is the code?', '{}'), rag_answer_from('What is the code?', NULL);
SELECT code, message, hint FROM outcome($$SELECT rag_answer('bread', max_tokens => 0)$$);
SELECT code, message, hint FROM outcome($$SELECT rag_answer('bread', max_tokens => 100000)$$);
SELECT code, message, hint FROM outcome($$SELECT rag_answer('bread', max_context_tokens => 5)$$);
SELECT code, message, hint FROM outcome($$SELECT rag_answer('bread', max_context_tokens => 0)$$);
SELECT code, message, hint FROM outcome($$SELECT rag_answer('bread', model => 'all-MiniLM-L6-v2')$$);
SELECT code, message, hint FROM outcome($$SELECT rag_answer('bread', template => 'nothing in it')$$);
SELECT code, message ~ 'tokens' AS tells_tokens, hint FROM outcome($$SELECT rag_answer(repeat('bread ', 8300))$$);

-- Prompts: passages are numbered data, cut to the budget.
SELECT p ~ 'What is it\?' AS question, p ~ 'first passage' AS first, p ~ 'second passage' AS second, position('first passage' IN p) < position('second passage' IN p) AS in_order,
       p ~ '1' AND p ~ '2' AS numbered
  FROM rag_prompt('What is it?', ARRAY['first passage', 'second passage']) p;
SELECT token_count(rag_prompt('What is it?', array_fill(repeat('many words in it ', 200), ARRAY[50])), 'SmolLM2-135M-Instruct') <= 8192 AS fits_the_context;
SELECT token_count(rag_prompt('What is it?', array_fill(repeat('many words in it ', 200), ARRAY[50]), max_context_tokens => 300), 'SmolLM2-135M-Instruct') < 800 AS fits_the_budget;
SELECT rag_prompt(NULL, ARRAY['a']);

-- The aggregate: passages of any query, in its order
SELECT rag_answer_agg('What is bread made of?', body ORDER BY body) ~ 'flour' AS aggregated FROM (VALUES ('Bread is made of flour, water, yeast and salt.'), ('The sky is blue.'), (NULL)) v(body);
SELECT rag_answer_agg('What is the code?', body) FROM (SELECT ''::text AS body WHERE false) v;
SELECT rag_answer_agg('What is the code?', body) FROM (VALUES (NULL::text)) v(body);

-- Dropping
SELECT code, message, detail, hint FROM outcome($$DROP TABLE articles$$);
SELECT code, message, detail FROM outcome($$SELECT rag_drop_model('all-MiniLM-L6-v2')$$);
SELECT rag_drop_index('articles_rag');
SELECT count(*) AS indexes FROM rag_indexes;
SELECT count(*) AS tables FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'rag' AND c.relname LIKE '%chunks%';
SELECT count(*) AS rows FROM articles;
SELECT code, message FROM outcome($$SELECT rag_drop_index('articles')$$);

-- An index that is rolled back, and one that is filled later
BEGIN;
SELECT rag_create_index('articles', 'body', sync => 'manual');
ALTER TABLE articles ADD added_after_it integer;
SELECT embedded FROM rag_refresh('articles_rag');
ALTER TABLE articles DROP added_after_it;
ROLLBACK;
SELECT rag_create_index('articles', 'body', backfill => false, sync => 'manual');
SELECT count(*) FROM articles_rag;
SELECT embedded FROM rag_refresh('articles_rag');
SELECT rag_drop_index('articles_rag');
DROP TABLE articles, books, keyless, taken CASCADE;
DROP ROLE regress_rag_stranger;
