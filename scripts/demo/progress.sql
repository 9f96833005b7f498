-- One line of JSON, again and again, about the index that another session builds.
SELECT to_jsonb(progress) FROM rag_index_progress AS progress WHERE index_name LIKE '%manual_rag%'
\watch 0.3
