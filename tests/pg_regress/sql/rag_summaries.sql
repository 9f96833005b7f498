-- summarize => true: summaries of pages, found beside the text. What the model writes is not printed.
CREATE TABLE books (id integer PRIMARY KEY, title text, body text, pages jsonb, reads integer NOT NULL DEFAULT 0);
CREATE FUNCTION prose(about text, sentences integer DEFAULT 6) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(format('Sentence %s of this page tells something new about %s and their use in the garden.', i, about), ' ' ORDER BY i) FROM generate_series(1, sentences) i $$;
CREATE FUNCTION book(VARIADIC abouts text[]) RETURNS TABLE (body text, pages jsonb) LANGUAGE sql AS
$$ SELECT string_agg(p.t, E'\n\n' ORDER BY n), jsonb_agg(jsonb_build_object('page', n, 'start', p.start) ORDER BY n)
     FROM (SELECT n, prose(a) AS t, coalesce(sum(length(prose(a)) + 2) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS start
             FROM unnest(abouts) WITH ORDINALITY u(a, n)) p $$;
INSERT INTO books SELECT 1, 'Flowers', b.body, b.pages FROM book('roses', 'tulips', 'daisies') b;
INSERT INTO books VALUES (2, 'Note', 'Too short for a summary.', '[]'), (3, 'Herbs', prose('herbs'), '[]'), (4, 'Empty', NULL, NULL);

-- Arguments
SELECT a, code, message, hint FROM unnest(ARRAY['summary_max_words => 0', 'summary_max_words => 5000', 'summarize => true, summary_model => ''unknown''',
    'summarize => true, summary_model => ''all-MiniLM-L6-v2''', 'summary_model => ''SmolLM2-135M-Instruct''', 'summarize => NULL']) a,
    outcome(format('SELECT rag_create_index(''books'', ''body'', %s)', a));
ALTER TABLE books ADD is_summary boolean;
SELECT code, message, hint FROM outcome($$SELECT rag_create_index('books', 'body', summarize => true)$$);
ALTER TABLE books DROP is_summary;

-- A summary for each page, for each text without pages, and none for what is short
SELECT rag_create_index('books', 'body', pages_column => 'pages', template => '{title}: {chunk}', summarize => true, summary_max_words => 12);
SELECT summary_model, summary_max_words FROM rag_indexes WHERE index = 'books_rag'::regclass;
SELECT rag_wait('books_rag', '3 min');
SELECT id, page, last_page, chunk_seq, chunk <> '' AS written, char_end - char_start = length(prose(CASE WHEN id = 3 THEN 'herbs' ELSE (ARRAY['roses', 'tulips', 'daisies'])[page] END)) AS of_the_page,
       cardinality(regexp_split_to_array(chunk, '\s+')) <= 12 AS bounded, tokens > 0 AS counted, embedding IS NOT NULL AS embedded
  FROM books_rag WHERE is_summary ORDER BY id, page;
SELECT id, bool_or(is_summary) AS has_summary, bool_and(is_summary OR substr(body, char_start + 1, char_end - char_start) = chunk) AS texts_are_of_the_source FROM books_rag GROUP BY id ORDER BY id;
SELECT state, coverage, pending, failed, summaries_pending, summaries_done, summaries_per_s > 0 AS rate FROM rag_index_status WHERE index = 'books_rag'::regclass;

-- They are written once: marked here, the marks stay whatever else changes.
CREATE FUNCTION mark() RETURNS void LANGUAGE sql AS
$$ UPDATE rag.books_rag_chunks SET chunk = format('The zyzzyva is on page %s of book %s.', coalesce(page, 0), source_id) WHERE summary_hash IS NOT NULL $$;
CREATE VIEW marks AS SELECT id, page, CASE WHEN chunk ~ 'zyzzyva' THEN chunk ELSE 'written anew' END AS chunk FROM books_rag WHERE is_summary ORDER BY id, page;
SELECT mark();
UPDATE books SET reads = 1;
UPDATE books SET title = 'All flowers' WHERE id = 1;
SELECT rag_wait('books_rag', '3 min');
SELECT * FROM marks;
SELECT summaries_done FROM rag_index_status WHERE index = 'books_rag'::regclass;
-- of a page that changes it is written anew, those of the others stay, also where pages move
UPDATE books b SET body = n.body, pages = n.pages FROM book('roses', 'lilies', 'tulips') n WHERE id = 1;
UPDATE books SET body = prose('mushrooms') WHERE id = 2;
UPDATE books SET body = 'Nothing is left.' WHERE id = 3;
SELECT rag_wait('books_rag', '3 min');
SELECT * FROM marks;
SELECT summaries_done FROM rag_index_status WHERE index = 'books_rag'::regclass;
DELETE FROM books WHERE id = 2;
SELECT rag_wait('books_rag', '3 min');
SELECT id, count(*) FROM books_rag WHERE is_summary GROUP BY id;
SELECT rows, chunks, embedded, removed_rows FROM rag_refresh('books_rag');

-- What is found by a summary says so; answers and pictures are made of the text alone.
SELECT mark();
SELECT source_key, chunk_seq, chunk, metadata FROM rag_search('Where is the zyzzyva?', 'books_rag', k => 1, mode => 'text');
SELECT metadata -> 'summary' AS summary, chunk = substr(body, char_start + 1, char_end - char_start) AS of_the_source
  FROM rag_search('Where is the zyzzyva?', 'books_rag', k => 1, mode => 'text', neighbors => 1), books WHERE id = (source_key ->> 'id')::integer;
SELECT jsonb_array_length(a.sources) > 0 AS has_sources, (SELECT bool_and(position(s ->> 'chunk' IN body) > 0) FROM jsonb_array_elements(a.sources) s, books WHERE id = 1) AS of_the_source,
       (SELECT bool_and(position(c ->> 'quote' IN body) > 0) FROM jsonb_array_elements(a.citations) c, books WHERE id = 1) IS NOT FALSE AS quotes_too
  FROM rag_ask('Where is the zyzzyva?', 'books_rag', k => 2, mode => 'text', max_tokens => 8) a;
SELECT rag_map('books_rag') !~ 'zyzzyva' AS not_drawn;

-- A new index takes them over, if pages, model and length are the same.
SELECT rag_reindex('books_rag', template => '{chunk}', chunking => '{"size": 40}');
SELECT rag_wait('books_rag_new', '3 min');
DO $$ BEGIN FOR i IN 1..600 LOOP EXIT WHEN NOT EXISTS (SELECT FROM rag.replaced); PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT template, summary_max_words FROM rag_indexes WHERE index = 'books_rag'::regclass;
SELECT * FROM marks;
SELECT summaries_done FROM rag_index_status WHERE index = 'books_rag'::regclass;
SELECT code, message, detail FROM outcome($$SELECT rag_drop_model('SmolLM2-135M-Instruct')$$);
DROP VIEW marks;
SELECT rag_drop_index('books_rag');

-- Who may not see a row may not see its summary.
CREATE ROLE regress_rag_reader;
SELECT rag_create_index('books', 'body', sync => 'manual', pages_column => 'pages', summarize => true, summary_max_words => 12);
SELECT count(*) AS summaries_without_a_worker FROM books_rag WHERE is_summary;
GRANT SELECT ON books, books_rag TO regress_rag_reader;
ALTER TABLE books ENABLE ROW LEVEL SECURITY;
CREATE POLICY short_ones ON books USING (length(body) < 100);
SET ROLE regress_rag_reader;
SELECT count(*) FROM books_rag;
SELECT count(*) FROM rag.books_rag_chunks WHERE summary_hash IS NOT NULL;
SELECT source_key FROM rag_search('flowers in the garden', 'books_rag');
RESET ROLE;
ALTER TABLE books DISABLE ROW LEVEL SECURITY;
SELECT rag_drop_index('books_rag');

-- Within the writer's statement
SELECT rag_create_index('books', 'body', sync => 'immediate', pages_column => 'pages', summarize => true, summary_max_words => 12);
INSERT INTO books SELECT 5, 'Trees', b.body, b.pages FROM book('oaks', 'limes') b;
SELECT id, count(*) FROM books_rag WHERE is_summary GROUP BY id ORDER BY id;
UPDATE rag.books_rag_chunks SET chunk = 'zyzzyva' WHERE summary_hash IS NOT NULL;
UPDATE books b SET body = n.body, pages = n.pages FROM book('oaks', 'elms', 'limes') n WHERE id = 5;
SELECT page, chunk = 'zyzzyva' AS kept FROM books_rag WHERE id = 5 AND is_summary ORDER BY page;
DELETE FROM books WHERE id = 5;
SELECT count(*) FROM books_rag WHERE id = 5;
SELECT rag_drop_index('books_rag');

-- A page that cannot be summarised fails as a row does; its text is there
LOAD 'pg_rag';
COPY (SELECT WHERE false) TO PROGRAM 'rm -rf test_writer && mkdir test_writer';
\getenv inputs PG_ABS_SRCDIR
SELECT format('cp -R %s/../data/tiny_llama test_writer', :'inputs') AS copy_model, current_setting('data_directory') || '/test_writer' AS folder \gset
COPY (SELECT WHERE false) TO PROGRAM :'copy_model';
SELECT rag_add_model('tiny-writer', 'generate', :'folder' || '/tiny_llama');
CREATE TABLE notes (id integer PRIMARY KEY, body text);
INSERT INTO notes VALUES (1, prose('stones', 40));
SELECT rag_create_index('notes', 'body', summarize => true, summary_model => 'tiny-writer', summary_max_words => 200);
DO $$ BEGIN FOR i IN 1..600 LOOP EXIT WHEN EXISTS (SELECT FROM rag_index_errors); PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT index, key, attempts > 0 AS tried, failed, error FROM rag_index_errors;
SELECT state, coverage, pending, failed, summaries_pending, last_error FROM rag_index_status WHERE index = 'notes_rag'::regclass;
SELECT count(*) > 1 AS has_texts, bool_or(is_summary) AS has_summary FROM notes_rag;
UPDATE notes SET body = 'Short.';
SELECT rag_wait('notes_rag', '3 min');
SELECT count(*) FROM rag_index_errors;
DROP TABLE notes CASCADE;
SELECT rag_drop_model('tiny-writer');

-- Collections
SELECT rag_create_collection('papers', summarize => true, summary_max_words => 12);
SELECT rag_ingest('papers', prose('birds'), 'birds.txt');
SELECT rag_wait('papers_rag', '3 min');
SELECT chunk_seq, is_summary, headings FROM papers_rag ORDER BY chunk_seq;
DROP TABLE papers CASCADE;
REVOKE ALL ON books FROM regress_rag_reader;
DROP ROLE regress_rag_reader;
DROP TABLE books CASCADE;
DROP FUNCTION prose, book, mark;
SELECT count(*) AS nothing_left FROM rag.queue;
