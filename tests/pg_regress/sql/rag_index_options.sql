-- Options of an index: which rows, columns beside the chunks, pages; and rag_reindex
CREATE TABLE notes (id integer PRIMARY KEY, tenant integer NOT NULL, title text, body text, published boolean NOT NULL DEFAULT true, tags text[]);
INSERT INTO notes VALUES
    (1, 1, 'Bread', 'Bread is made of flour, water, yeast and salt, and is baked in a hot oven.', true, '{food}'),
    (2, 2, 'Moon', 'The moon goes round the earth once in about a month and causes the tides of the sea.', true, '{sky,sea}'),
    (3, 1, 'Bicycle', 'A bicycle stays upright because its rider steers into the fall.', false, '{road}'),
    (4, 2, 'Rolls', 'Rolls are small loaves of bread that are eaten warm.', true, '{food}');

-- Conditions that an index cannot have
SELECT c, code, message, detail, hint FROM unnest(ARRAY[
    'published) OR (true', 'published; DROP TABLE notes', 'true UNION SELECT 1', 'published AS x', 'published, true', 'published FROM notes', 'published ORDER BY 1', 'missing', 'id', 'random() > 0.5',
    'id IN (SELECT 1)', 'count(*) > 1', 'true', 'tableoid > 0', 'notes IS NOT NULL', '$1', '', 'other.id > 1']) c,
    outcome(format('SELECT rag_create_index(''notes'', ''body'', where_sql => %L)', c));
SELECT c, code, message, detail, hint FROM unnest(ARRAY[
    $$filter_columns => '{missing}'$$, $$filter_columns => '{tenant,tenant}'$$, $$filter_columns => '{NULL}'$$,
    $$pages_column => 'missing'$$, $$pages_column => 'body'$$]) c,
    outcome(format('SELECT rag_create_index(''notes'', ''body'', %s)', c));
SELECT count(*) AS nothing_left FROM pg_class WHERE relname LIKE 'notes\_rag%';

-- A partial index; its condition is kept as PostgreSQL writes it
SELECT rag_create_index('notes', 'body', where_sql => 'published AND notes.tenant < 3 -- the rest', filter_columns => '{tenant,tags}');
SELECT where_sql, filter_columns FROM rag_indexes WHERE index = 'notes_rag'::regclass;
SELECT id, chunk_seq FROM notes_rag ORDER BY 1;
SELECT filter_tenant, filter_tags FROM rag.notes_rag_chunks ORDER BY source_id;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'rag.notes_rag_chunks'::regclass AND NOT indisprimary ORDER BY 1;
SELECT source_key, rank FROM rag_search('warm bread', 'notes_rag', k => 5) ORDER BY rank LIMIT 2;

-- Conditions over copied columns are tested by the index of the vectors, and give what they give over the table
SELECT source_key FROM rag_search('warm bread', 'notes_rag', where_sql => 'tenant = ($1->>''tenant'')::integer', where_args => '{"tenant": 2}') ORDER BY rank;
SELECT source_key FROM rag_search('warm bread', 'notes_rag', where_sql => $$tags && '{sky,road}' AND length(title) > 3$$) ORDER BY rank;
SELECT source_key FROM rag_search('warm bread', 'notes_rag', where_sql => $$tenant = 1 OR title = 'Moon'$$) ORDER BY source_key;
SELECT source_key FROM rag_search('warm bread', 'notes_rag', where_sql => 'tenant = 1 AND EXISTS (SELECT FROM notes n WHERE n.id = notes.id)') ORDER BY rank;

-- What changes such a column is followed, and vectors are not made again
CREATE TEMPORARY TABLE before AS SELECT source_id, embedding FROM rag.notes_rag_chunks;
UPDATE notes SET published = true WHERE id = 3;
UPDATE notes SET published = false WHERE id = 1;
SELECT id FROM notes_rag ORDER BY 1;
UPDATE notes SET tenant = 1, tags = '{sky}' WHERE id = 2;
SELECT rag_wait('notes_rag', '2 min');
SELECT id, filter_tenant, filter_tags FROM notes_rag JOIN rag.notes_rag_chunks ON source_id = id ORDER BY 1;
SELECT count(*) AS kept FROM before JOIN rag.notes_rag_chunks USING (source_id, embedding);
SELECT source_rows, coverage, pending FROM rag_index_status WHERE index = 'notes_rag'::regclass;

-- New names of columns are followed
ALTER TABLE notes RENAME published TO visible;
ALTER TABLE notes RENAME tenant TO owner_id;
SELECT where_sql, filter_columns FROM rag_indexes WHERE index = 'notes_rag'::regclass;
UPDATE notes SET visible = true WHERE id = 1;
INSERT INTO notes VALUES (5, 1, 'Sea', 'The sea is salty.', true, '{sea}'), (6, 1, 'Hidden', 'Nobody reads this.', false, '{}');
SELECT rag_wait('notes_rag', '2 min');
SELECT id, filter_owner_id FROM notes_rag JOIN rag.notes_rag_chunks ON source_id = id ORDER BY 1;
SELECT source_key FROM rag_search('salt', 'notes_rag', where_sql => 'owner_id = 1', k => 2) ORDER BY source_key;
SELECT rows, chunks, embedded, removed_rows FROM rag_refresh('notes_rag');

-- A new index in the place of the old one
SELECT code, message, hint FROM outcome($$SELECT rag_reindex('notes')$$);
SELECT code, message, hint FROM outcome($$SELECT rag_reindex('notes_rag', model => 'SmolLM2-135M-Instruct')$$);
SELECT code, message, hint FROM outcome($$SELECT rag_reindex('notes_rag', template => 'nothing')$$);
CREATE TEMPORARY TABLE old AS SELECT index, chunks FROM rag_indexes WHERE index = 'notes_rag'::regclass;
SELECT rag_pause_index(rag_reindex('notes_rag', template => '{title}: {chunk}', chunking => '{"size": 8, "overlap": 0}'));
-- it is an index of its own until then, but not one that a search means without naming it
SELECT index, replaces, template FROM rag_indexes WHERE source = 'notes'::regclass ORDER BY index;
SELECT code, message, hint FROM outcome($$SELECT rag_reindex('notes_rag')$$);
SELECT code, message FROM outcome($$SELECT rag_reindex('notes_rag_new')$$);
SELECT count(*) FROM notes_rag;
INSERT INTO notes VALUES (7, 2, 'Late', 'This came while the new index was built.', true, '{}');
SELECT rag_resume_index('notes_rag_new');
SELECT rag_wait('notes_rag_new', '2 min');
-- the old chunks go when nobody can look for them any more
DO $$ BEGIN FOR i IN 1..600 LOOP EXIT WHEN NOT EXISTS (SELECT FROM rag.replaced); PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT i.index, i.template, i.size, i.replaces, i.chunks <> o.chunks AS has_other_chunks, to_regclass(o.chunks::text) IS NOT DISTINCT FROM o.chunks AS has_old_chunks
  FROM rag_indexes i JOIN old o USING (index);
SELECT rag_wait('notes_rag', '2 min');
SELECT id, count(*), min(title) FROM notes_rag GROUP BY id ORDER BY 1;
SELECT rows, chunks, embedded, removed_rows FROM rag_refresh('notes_rag');
SELECT source_key FROM rag_search('Late', 'notes_rag', k => 1);
-- it follows its table
UPDATE notes SET body = 'Rolls.' WHERE id = 4;
SELECT rag_wait('notes_rag', '2 min');
SELECT chunk FROM notes_rag WHERE id = 4;
-- given up
SELECT rag_pause_index(rag_reindex('notes_rag'));
SELECT rag_drop_index('notes_rag_new');
SELECT rag_pause_index(rag_reindex('notes_rag'));
SELECT rag_drop_index('notes_rag');
SELECT count(*) AS nothing_left FROM pg_class WHERE relname LIKE 'notes\_rag%';
SELECT count(*) AS no_triggers FROM pg_trigger WHERE tgrelid = 'notes'::regclass;
-- The other index of a table goes on when one is dropped by its view
SELECT rag_create_index('notes', 'body', name => 'one'), rag_create_index('notes', 'title', name => 'other');
DROP VIEW one;
INSERT INTO notes VALUES (8, 1, 'The last one', 'x', true, '{}');
SELECT rag_wait('other', '2 min');
SELECT chunk FROM other WHERE id = 8;
DROP TABLE notes CASCADE;
