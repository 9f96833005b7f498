-- chat and json_schema. Texts of the model are not printed, but what holds for them.
SELECT chat('[{"role": "user", "content": "What is the capital of France?"}]', max_tokens => 24)
     = generate('What is the capital of France?', max_tokens => 24) AS one_turn_is_a_prompt;
SELECT chat('[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]', max_tokens => 16)
     = generate('Who are you?', system => 'Be brief.', max_tokens => 16) AS system_is_the_first_turn;
SELECT chat('[{"role": "user", "content": "My name is Blackbeard."}, {"role": "assistant", "content": "Hello, Blackbeard!"},
              {"role": "user", "content": "What is my name?"}]', max_tokens => 24) <> generate('What is my name?', max_tokens => 24) AS what_was_said_counts;
SELECT chat(NULL);

-- Messages that are none
SELECT m, code, message, hint FROM unnest(ARRAY['{}', '[]', '"x"', '[1]', '[{"role": "user"}]', '[{"content": "x"}]',
    '[{"role": "tool", "content": "x"}]', '[{"role": "user", "content": 1}]']) m, outcome(format('SELECT chat(%L)', m));

-- The answer is a document of the schema, whatever the sampling.
SELECT jsonb_typeof(j -> 'name') AS name, (j ->> 'age')::integer BETWEEN 3 AND 99 AS age, j ->> 'kind' IN ('person', 'city') AS kind
  FROM (VALUES (0::real), (1.5::real), (8::real)) t(temperature),
       LATERAL (SELECT generate('Anna is 34 years old.', max_tokens => 200, temperature => t.temperature, seed => 1, json_schema => '{
         "type": "object", "required": ["name", "age", "kind"], "additionalProperties": false, "properties": {
           "name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 3, "maximum": 99},
           "kind": {"enum": ["person", "city"]}}}')::jsonb AS j) s;
SELECT chat('[{"role": "user", "content": "Is water wet?"}]', json_schema => '{"type": "boolean"}')::boolean IS NOT NULL AS decided;

-- Properties come in the order of the schema.
SELECT generate('Anna is 34.', max_tokens => 100, json_schema => '{"type": "object", "properties": {
    "zeta": {"type": "boolean"}, "a": {"type": "boolean"}}, "required": ["zeta", "a"], "additionalProperties": false}') ~ '^{"zeta": (true|false), "a": (true|false)}$' AS ordered;

-- Schemas that are not supported, and budgets that are too small
SELECT a, code, message, hint FROM unnest(ARRAY['{"uniqueItems": true, "type": "array"}', '[]', '{"type": "strung"}']) a,
    outcome(format('SELECT generate(''a'', json_schema => %L)', a));
SELECT code, message, hint FROM outcome($$SELECT generate('a', max_tokens => 3, json_schema => '{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}')$$);
SELECT code FROM outcome($$SELECT generate('a', stop => ARRAY['x'], json_schema => '{"type": "boolean"}')$$);
