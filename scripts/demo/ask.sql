-- Asks one question. Variables: question; condition (an expression over columns of "manual", or empty).
SELECT to_jsonb(asked)
  FROM rag_ask(:'question', index => 'manual_rag', where_sql => nullif(:'condition', '')) AS asked;
