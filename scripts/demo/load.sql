-- Brings table "manual" to the pages that come in on standard input as CSV. Prints how many rows that changed.
BEGIN;
CREATE TEMP TABLE incoming (LIKE manual) ON COMMIT DROP;
\copy incoming FROM pstdin (FORMAT csv)
WITH removed AS (
    DELETE FROM manual WHERE NOT EXISTS (SELECT FROM incoming WHERE incoming.path = manual.path) RETURNING 1
), stored AS (
    INSERT INTO manual SELECT * FROM incoming
    ON CONFLICT (path) DO UPDATE SET title = excluded.title, chapter = excluded.chapter, html = excluded.html
        WHERE (manual.title, manual.chapter, manual.html) IS DISTINCT FROM (excluded.title, excluded.chapter, excluded.html)
    RETURNING 1
)
SELECT (SELECT count(*) FROM removed) + (SELECT count(*) FROM stored);
COMMIT;
