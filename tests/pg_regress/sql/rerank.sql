-- rerank, rerank_score and embed_tokens
LOAD 'pg_rag';
COPY (SELECT WHERE false) TO PROGRAM 'rm -rf test_rerankers && mkdir test_rerankers';
\getenv inputs PG_ABS_SRCDIR
SELECT format('cp -R %1$s/../data/encoder_families/bert_pair %1$s/../data/encoder_families/xlm_roberta test_rerankers',
              :'inputs') AS copy_models,
       current_setting('data_directory') || '/test_rerankers' AS folder \gset
COPY (SELECT WHERE false) TO PROGRAM :'copy_models';
SELECT rag_add_model('tiny-reranker', 'rerank', :'folder' || '/bert_pair');
SELECT rag_add_model('tiny-xlm', 'embed', :'folder' || '/xlm_roberta');
SELECT rag_add_model('tiny-xlm-10', 'embed', :'folder' || '/xlm_roberta', '{"dims": 10}');
SELECT name, kind, architecture, dimensions, max_tokens FROM rag_models WHERE name LIKE 'tiny-%' ORDER BY name COLLATE "C";

-- The scores that sentence-transformers computes (tests/data/encoder_families/bert_pair/reference.json)
SELECT round(rerank_score('', 'index', 'tiny-reranker')::numeric, 4) AS score;
SELECT ord, round(score::numeric, 3) AS score, document
  FROM rerank('How do I create a partial index?', ARRAY['index', NULL, '', 'index'], model => 'tiny-reranker');
SELECT ord FROM rerank('How do I create a partial index?', ARRAY['index', NULL, '', 'index'], 1, 'tiny-reranker');
SELECT count(*) FROM rerank('query', '{}', model => 'tiny-reranker');
SELECT count(*) FROM rerank(NULL, ARRAY['a'], model => 'tiny-reranker');
SELECT rerank_score(NULL, 'a', 'tiny-reranker'), rerank_score('a', NULL, 'tiny-reranker');
SET pg_rag.rerank_model = 'tiny-reranker';
SELECT rerank_score('a', 'b') = rerank_score('a', 'b', 'tiny-reranker') AS by_setting;
RESET pg_rag.rerank_model;
SELECT code, message, hint FROM outcome($$SELECT rerank_score('a', 'b')$$);
SELECT code, message, hint FROM outcome($$SELECT rerank_score('a', 'b', 'tiny-xlm')$$);
SELECT code, message, hint FROM outcome($$SELECT embed('a', 'tiny-reranker')$$);
SELECT code, message FROM outcome($$SELECT rerank('a', '{b}', -1, 'tiny-reranker')$$);
SELECT code, message FROM outcome(format($$SELECT rag_add_model('tiny-wrong', 'rerank', %L)$$, :'folder' || '/xlm_roberta'));
SELECT code, message FROM outcome(format($$SELECT rag_add_model('tiny-wrong', 'embed', %L, '{"dims": 33}')$$, :'folder' || '/xlm_roberta'));

-- Tokens: the special ones stand for nothing of the text.
SELECT seq, char_start, char_end, vector_dims(embedding), substr('How?', char_start + 1, char_end - char_start) AS piece
  FROM embed_tokens('How?', 'tiny-xlm') ORDER BY seq;
SELECT max(char_end) = 4 AS characters_not_bytes FROM embed_tokens('źółć', 'tiny-xlm');

-- Of shortened vectors the direction is that of the first numbers.
SELECT vector_dims(embed('index', 'tiny-xlm-10')),
       embed('index', 'tiny-xlm-10') <-> l2_normalize(subvector(embed('index', 'tiny-xlm'), 1, 10)) < 1e-5 AS same;

SELECT rag_drop_model('tiny-reranker'), rag_drop_model('tiny-xlm'), rag_drop_model('tiny-xlm-10');
COPY (SELECT WHERE false) TO PROGRAM 'rm -rf test_rerankers';
