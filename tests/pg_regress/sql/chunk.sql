-- chunk: pieces that fit, with offsets that find them again.
CREATE TABLE samples (name text PRIMARY KEY, input text NOT NULL);
INSERT INTO samples VALUES
    ('plain', repeat('The quick brown fox jumps over the lazy dog. Then it sleeps in the sun, and nobody minds. ', 30)),
    ('paragraphs', (SELECT string_agg('Paragraph ' || i || ' says something about the number ' || i || '.', E'\n\n' ORDER BY i) FROM generate_series(1, 60) i)),
    ('unicode', repeat('Zażółć gęślą jaźń — 日本語のテキスト。 ' || U&'\+01F469\200D\+01F4BB' || ' e' || U&'\0301' || ' works. ', 25)),
    ('no spaces', repeat('x', 3000)),
    ('markdown', E'# Title\n\nIntro.\n\n## First\n\nText of the first part.\n\n```sql\nSELECT 1;\n\nSELECT 2;\n```\n\n## Second\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nEnd.\n');

-- Offsets, sizes and order hold for every strategy, unit and size.
SELECT count(*) > 200 AS enough,
       bool_and(substr(input, char_start + 1, char_end - char_start) = content) AS offsets,
       bool_and(char_end > char_start) AS not_empty,
       bool_and(content !~ '^\s*$') AS not_blank,
       bool_and(CASE WHEN unit = 'char' THEN char_length(content) <= size ELSE tokens <= size END) AS fits,
       bool_and(tokens >= 1) AS counted
  FROM samples,
       unnest(ARRAY['recursive', 'sentence', 'markdown']) strategy,
       (VALUES ('char', 40), ('char', 300), ('token', 16), ('token', 100)) u(unit, size),
       chunk(input, strategy, size => size, overlap => 0, unit => unit);

-- Nothing but white space is lost, and without overlap nothing comes twice.
SELECT strategy, bool_and(regexp_replace(input, '\s', '', 'g') = chunks) AS complete
  FROM (SELECT strategy, input, string_agg(regexp_replace(content, '\s', '', 'g'), '' ORDER BY seq) AS chunks
          FROM samples, unnest(ARRAY['recursive', 'sentence', 'markdown']) strategy,
               chunk(input, strategy, size => 60, overlap => 0)
         GROUP BY strategy, name, input) s
 GROUP BY strategy ORDER BY strategy;

-- An overlap repeats the end of a chunk at the start of the next.
SELECT bool_and(char_start > previous_start) AS advances, bool_or(char_start < previous_end) AS overlaps
  FROM (SELECT char_start, lag(char_start) OVER w AS previous_start, lag(char_end) OVER w AS previous_end
          FROM samples, chunk(input, 'sentence', size => 60, overlap => 20) WHERE name = 'plain'
        WINDOW w AS (ORDER BY seq)) s
 WHERE previous_start IS NOT NULL;

-- Headings, and code that is not torn.
SELECT seq, headings, content FROM samples, chunk(input, 'markdown', size => 60, overlap => 0, unit => 'char') WHERE name = 'markdown';

-- A short text is one chunk; an empty one is none.
SELECT * FROM chunk('A short text.');
SELECT count(*) FROM chunk('');
SELECT count(*) FROM chunk(E' \n\t ');
SELECT count(*) FROM chunk(NULL);

-- The tokens are those of the model.
SELECT content = 'antidisestablishmentarianism' AS whole, tokens = token_count(content) AS same_count
  FROM chunk('antidisestablishmentarianism');
SELECT tokens = token_count(content, 'SmolLM2-135M-Instruct') AS same_count
  FROM chunk('The quick brown fox.', model => 'SmolLM2-135M-Instruct');

-- Arguments
SELECT code, message, hint FROM outcome($$SELECT chunk('a', 'by colour')$$);
SELECT code, message, hint FROM outcome($$SELECT chunk('a', unit => 'inch')$$);
SELECT code, message, hint FROM outcome($$SELECT chunk('a', size => 0)$$);
SELECT code, message, hint FROM outcome($$SELECT chunk('a', size => 10, overlap => 10)$$);
SELECT code, message, hint FROM outcome($$SELECT chunk('a', size => 10, overlap => -1)$$);
SELECT code, message, hint FROM outcome($$SELECT chunk('a', model => 'unknown')$$);
DROP TABLE samples;
