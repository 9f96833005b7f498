-- embed and embed_query
SELECT vector_dims(embed('a text')), round(vector_norm(embed('a text'))::numeric, 5) AS norm;
SELECT embed(NULL), embed(NULL, 'all-MiniLM-L6-v2'), embed('a', NULL), embed_query(NULL), embed(NULL::text[], 'all-MiniLM-L6-v2');
SELECT embed('a text') = embed('a text', 'all-MiniLM-L6-v2') AS same_model, embed('a text') = embed_query('a text') AS model_without_prefixes;

-- Similar texts are nearer than others.
SELECT a <=> similar_text < a <=> other AS similar_is_nearer, a <=> a < 1e-6 AS same_is_nearest, a <=> shouted < 1e-6 AS uncased
  FROM (SELECT embed('How do I bake bread?') a, embed('A recipe for a loaf.') similar_text,
               embed('The moon goes round the earth.') other, embed('HOW DO I BAKE BREAD?') shouted) s;

-- Empty and long texts have vectors; what is beyond the model's 256 tokens does not count.
SELECT vector_dims(embed('')), vector_dims(embed(E' \n '));
SELECT embed(repeat('word ', 254)) <=> embed(repeat('word ', 5000)) < 1e-6 AS cut_where_the_model_says,
       embed(repeat('word ', 200)) <=> embed(repeat('word ', 5000)) > 1e-6 AS not_before;

-- A batch gives what single calls give, in order, and NULL for NULL.
SELECT bool_and(single <-> batch < 1e-3) AS same
  FROM (SELECT embed(t, 'all-MiniLM-L6-v2') AS single,
               (embed(array_agg(t) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING), 'all-MiniLM-L6-v2'))[n] AS batch
          FROM unnest(ARRAY['one', 'two words', repeat('many words ', 80), '', 'Zażółć gęślą jaźń', 'the end']) WITH ORDINALITY u(t, n)) s;
SELECT e[1] IS NULL AS first_null, vector_dims(e[2]), e[3] IS NULL AS last_null
  FROM embed(ARRAY[NULL, 'a', NULL], 'all-MiniLM-L6-v2') e;
SELECT embed('{}'::text[], 'all-MiniLM-L6-v2');

-- Volatility: usable in a generated column, an expression index and ORDER BY.
SELECT oid::regprocedure, provolatile, proparallel
  FROM pg_proc WHERE proname IN ('embed', 'embed_query') ORDER BY oid::regprocedure::text COLLATE "C";
CREATE TABLE notes (id integer PRIMARY KEY, body text,
                    embedding vector(384) GENERATED ALWAYS AS (embed(body, 'all-MiniLM-L6-v2')) STORED);
INSERT INTO notes (id, body) VALUES (1, 'Bread is baked in an oven.'), (2, 'The moon goes round the earth.'), (3, 'A bicycle has two wheels.'), (4, NULL);
UPDATE notes SET body = 'A bicycle has two wheels and a saddle.' WHERE id = 3;
SELECT id, embedding = embed(body) AS current FROM notes ORDER BY id;
SELECT id FROM notes WHERE body IS NOT NULL ORDER BY embedding <=> embed('Where is the moon?') LIMIT 1;
SELECT id FROM notes WHERE body IS NOT NULL ORDER BY embedding <=> embed_query('cycling') LIMIT 1;
CREATE INDEX ON notes ((embed(body, 'all-MiniLM-L6-v2')));
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM notes WHERE embed(body, 'all-MiniLM-L6-v2') = '[1,2,3]';
RESET enable_seqscan;
SELECT code, message FROM outcome('CREATE TABLE wrong (body text, e vector(384) GENERATED ALWAYS AS (embed(body)) STORED)');
SELECT code, message FROM outcome('CREATE TABLE wrong (body text, e vector(3) GENERATED ALWAYS AS (embed(body, ''all-MiniLM-L6-v2'')) STORED); INSERT INTO wrong VALUES (''a'')');

-- Models
SELECT code, message, hint FROM outcome($$SELECT embed('a', 'unknown')$$);
SELECT code, message, hint FROM outcome($$SELECT embed('a', '')$$);
SELECT code, message, hint FROM outcome($$SELECT embed('a', 'SmolLM2-135M-Instruct')$$);
SELECT code, message, hint FROM outcome($$SET LOCAL pg_rag.embedding_model = 'unknown'; SELECT embed('a')$$);
SELECT code, message, hint FROM outcome($$SELECT embed(ARRAY['a'], 'unknown')$$);
SELECT vector_dims(embed('a')) AS session_goes_on;
DROP TABLE notes;
