-- generate and generate_stream. Texts of the model are not printed, but what holds for them.
SELECT generate('What is the capital of France?', max_tokens => 24) ~ 'Paris' AS sensible;
SELECT generate(p, max_tokens => 24) = generate(p, max_tokens => 24) AS greedy_is_stable FROM (VALUES ('Name three colours.')) v(p);
SELECT generate('Name a colour.', max_tokens => 12, temperature => 1, seed => 1) = generate('Name a colour.', max_tokens => 12, temperature => 1, seed => 1) AS seed_is_stable;
SELECT count(DISTINCT generate('Invent a name for a ship.', max_tokens => 12, temperature => 1.5, seed => s)) > 1 AS seeds_differ
  FROM generate_series(1, 6) s;
SELECT generate('Invent a name for a ship.', max_tokens => 12, temperature => 1.5, top_k => 1, seed => 1)
     = generate('Invent a name for a ship.', max_tokens => 12, temperature => 1.5, top_k => 1, seed => 2) AS top_1_is_greedy;
SELECT generate(NULL), generate('Say hello.', model => 'SmolLM2-135M-Instruct', max_tokens => 4) <> '' AS named;
SELECT generate('', max_tokens => 4) IS NOT NULL AS empty_prompt_is_allowed;

-- The system text counts.
SELECT generate('Who are you?', system => 'You are a pirate called Blackbeard. Always say your name.', max_tokens => 32)
    <> generate('Who are you?', max_tokens => 32) AS system_counts;

-- max_tokens bounds the answer.
SELECT token_count(generate('Count from one to one hundred.', max_tokens => 5), 'SmolLM2-135M-Instruct') <= 5 AS bounded;
SELECT generate('Count from one to one hundred.', max_tokens => 24) LIKE generate('Count from one to one hundred.', max_tokens => 5) || '%' AS prefix;

-- A stop text ends the answer and is not part of it.
SELECT full_text LIKE '%Paris%' AS would_come, stopped NOT LIKE '%Paris%' AS stops, full_text LIKE stopped || '%' AS prefix
  FROM (SELECT generate('What is the capital of France?', max_tokens => 24) AS full_text,
               generate('What is the capital of France?', max_tokens => 24, stop => ARRAY['Paris', 'nowhere']) AS stopped) s;

-- The pieces of a stream make the answer.
SELECT string_agg(piece, '' ORDER BY at) = generate('What is the capital of France?', max_tokens => 24) AS same, count(*) > 4 AS several
  FROM generate_stream('What is the capital of France?', max_tokens => 24) WITH ORDINALITY s(piece, at);
SELECT string_agg(piece, '' ORDER BY at) = generate('What is the capital of France?', max_tokens => 24, stop => ARRAY['Paris']) AS same
  FROM generate_stream('What is the capital of France?', max_tokens => 24, stop => ARRAY['Paris']) WITH ORDINALITY s(piece, at);
SELECT count(*) FROM generate_stream(NULL);
SELECT count(*) FROM (SELECT generate_stream('Write a long story.', max_tokens => 500) LIMIT 2) s;
SELECT generate('Say hello.', max_tokens => 4) <> '' AS after_a_stream_that_ended_early;

-- A stream and other calls in one query do not disturb each other.
SELECT count(*) = count(vector_dims(embed(piece))) AS both, count(*) > 4 AS several
  FROM generate_stream('What is the capital of France?', max_tokens => 12) piece;

-- Arguments
SELECT a, code, message, hint FROM unnest(ARRAY[
    'max_tokens => 0', 'max_tokens => -1', 'max_tokens => 40000', 'temperature => -0.1', 'temperature => 11',
    'temperature => ''NaN''', 'top_p => -0.1', 'top_p => 1.5', 'top_k => -1',
    'repeat_penalty => 0', 'repeat_penalty => ''NaN''', 'stop => ARRAY['''']', 'stop => ARRAY[repeat(''x'', 300)]',
    'stop => array_fill(''x''::text, ARRAY[17])', 'model => ''unknown''', 'model => ''all-MiniLM-L6-v2''']) a,
    outcome(format('SELECT generate(''a'', %s)', a));
SELECT code = '22004' AS null_is_refused FROM outcome($$SELECT generate('a', stop => ARRAY[NULL::text])$$);
SELECT code, message, hint FROM outcome($$SELECT count(*) FROM generate_stream('a', max_tokens => 0)$$);

-- A prompt that is longer than the context
SELECT code, message ~ 'tokens' AS tells_tokens, hint FROM outcome($$SELECT generate(repeat('word ', 8300))$$);
SELECT generate('Say hello.', max_tokens => 4) <> '' AS session_goes_on;

-- Control tokens in a prompt are text.
SELECT generate('Repeat: <|im_end|>', max_tokens => 8) IS NOT NULL AS answered;
