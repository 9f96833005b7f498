-- rag_create_collection, rag_ingest
SELECT rag_create_collection('papers', filter_columns => '{type}');
SELECT rag_ingest('papers', E'# Birds\n\nThe kestrel hovers in the wind.\n\n## Owls\n\nOwls hunt at night.', 'birds.md', '{"shelf": 3}', title => 'Birds');
SELECT rag_ingest('papers', '<!DOCTYPE html><title>Tides</title><h1>Tides</h1><p>The moon causes the tides of the sea.'::text, 'https://example.org/tides');
SELECT rag_ingest('papers', convert_to('Brot wird aus Mehl gebacken – für alle.', 'LATIN1'), type => 'text', encoding => 'LATIN1') AS code_page_has_no_dash;
SELECT rag_ingest('papers', convert_to('Käse und Brot für alle.', 'LATIN1'), type => 'text', encoding => 'LATIN1');
SELECT rag_ingest('papers', NULL::text), rag_ingest('papers', NULL::bytea);
SELECT id, uri, title, type, content, pages, metadata FROM papers ORDER BY id;
SELECT rag_wait('papers_rag', '2 min');
SELECT id, chunk, headings, page, last_page FROM papers_rag ORDER BY id, chunk_seq;
SELECT source_key, metadata FROM rag_search('what makes the sea rise?', 'papers_rag', k => 1);

-- The same document costs nothing; a newer one takes its place
CREATE TEMPORARY TABLE before AS SELECT id, xmin AS row_version, ingested_at FROM papers;
SELECT rag_ingest('papers', E'# Birds\n\nThe kestrel hovers in the wind.\n\n## Owls\n\nOwls hunt at night.', 'birds.md', '{"shelf": 3}');
SELECT count(*) AS untouched FROM before b JOIN papers p ON p.id = b.id AND p.xmin = b.row_version;
SELECT rag_ingest('papers', E'# Birds\n\nThe kestrel hovers in the wind.\n\n## Owls\n\nOwls hunt at night.', 'birds.md', '{"shelf": 4}', title => 'All birds');
SELECT id, title, metadata, p.ingested_at = b.ingested_at AS same_time FROM papers p JOIN before b USING (id) WHERE uri = 'birds.md';
SELECT rag_ingest('papers', 'Penguins cannot fly.', 'birds.md');
SELECT rag_wait('papers_rag', '2 min');
SELECT id, title, metadata, chunk FROM papers_rag WHERE uri = 'birds.md';

-- Pages of a text, by hand
INSERT INTO papers (uri, content, pages) VALUES ('pages', 'One two three. Four five six. Seven.', '[{"page": 1, "start": 0}, {"page": 2, "start": 15}, {"page": 7, "start": 30, "name": "Seven"}]');
INSERT INTO papers (uri, content, pages) VALUES ('wrong', 'A text.', '[{"page": 1, "start": 70}]'), ('strange', 'A text.', '{"a": 1}');
SELECT rag_wait('papers_rag', '3 s');
SELECT chunk, page, last_page, headings FROM papers_rag WHERE uri = 'pages' ORDER BY chunk_seq;
SELECT count(*) AS failing, min(error) FROM rag_index_errors WHERE index = 'papers_rag'::regclass;

-- What cannot be
SELECT c, code, message, detail, hint FROM unnest(ARRAY[
    $$rag_create_collection('papers')$$, $$rag_create_collection('')$$, $$rag_create_collection(NULL)$$, $$rag_create_collection('x', model => 'missing')$$,
    $$rag_ingest('pg_class', 'text')$$, $$rag_ingest('papers', 'text', metadata => '[]')$$, $$rag_ingest('papers', 'text', metadata => NULL)$$,
    $$rag_ingest(NULL, 'text')$$, $$rag_ingest('papers', 'GIF89a'::bytea)$$, $$rag_ingest('papers', 'text', type => 'tex')$$]) c,
    outcome('SELECT ' || c);
CREATE ROLE regress_rag_reader;
GRANT SELECT ON papers TO regress_rag_reader;
SET ROLE regress_rag_reader;
SELECT code, message FROM outcome($$SELECT rag_ingest('papers', 'text')$$);
SELECT count(*) FROM rag_search('bread', 'papers_rag');
RESET ROLE;
REVOKE ALL ON papers FROM regress_rag_reader;
DROP ROLE regress_rag_reader;
DROP TABLE papers CASCADE;
SELECT count(*) AS nothing_left FROM rag_indexes WHERE source::text = 'papers';
