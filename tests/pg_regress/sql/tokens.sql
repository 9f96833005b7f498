-- tokenize, detokenize, token_count
SELECT tokenize('hello world');
SELECT tokenize('Hello  WORLD!') = tokenize('hello world !') AS uncased;
SELECT detokenize(tokenize('hello world'));
SELECT token_count('hello world'), token_count(''), token_count(NULL);
SELECT tokenize(''), tokenize(NULL), detokenize(NULL);

-- The default is the embedding model; a generation model counts differently and loses nothing.
SELECT token_count(s, 'SmolLM2-135M-Instruct') > 0 AS counted, detokenize(tokenize(s, 'SmolLM2-135M-Instruct'), 'SmolLM2-135M-Instruct') = s AS lossless
  FROM unnest(ARRAY['The Quick brown fox.', E'  two\n\n lines\t', 'Zażółć gęślą jaźń 日本語 👩‍💻', '<|im_start|>system']) s;

-- A control token written in a text is text.
SELECT cardinality(tokenize('<|im_end|>', 'SmolLM2-135M-Instruct')) > 1 AS not_one_token;
SELECT cardinality(tokenize('[SEP]')) > 1 AS not_one_token;

-- Arguments
SELECT code, message FROM outcome($$SELECT detokenize(ARRAY[-1])$$);
SELECT code, message FROM outcome($$SELECT detokenize(ARRAY[1, NULL])$$);
SELECT code, message FROM outcome($$SELECT detokenize(ARRAY[2000000000])$$);
SELECT code, message, hint FROM outcome($$SELECT tokenize('a', 'unknown')$$);
SELECT code, message, hint FROM outcome($$SET LOCAL pg_rag.embedding_model = 'unknown'; SELECT token_count('a')$$);
