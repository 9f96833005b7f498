-- Asks one question. Variables: question; condition (an expression over columns of "manual", or empty).
SELECT jsonb_build_object(
    'answer', asked.answer,
    'grounded', asked.grounded,
    'usage', asked.usage,
    'sources', (
        SELECT jsonb_agg(source.value || jsonb_build_object('title', manual.title) ORDER BY (source.value ->> 'rank')::int)
          FROM jsonb_array_elements(asked.sources) AS source
          LEFT JOIN manual ON manual.path = source.value -> 'source_key' ->> 'path'
    ))
  FROM rag_ask(:'question', index => 'manual_rag', where_sql => nullif(:'condition', '')) AS asked;
