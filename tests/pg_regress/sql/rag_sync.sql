-- An index follows its table by itself.
CREATE TABLE papers (id integer PRIMARY KEY, title text NOT NULL, body text, reads integer NOT NULL DEFAULT 0);
INSERT INTO papers (id, title, body) VALUES
    (1, 'Bread', 'Bread is made of flour, water, yeast and salt.'),
    (2, 'Moon', 'The moon goes round the earth once in about a month.'),
    (3, 'Empty', NULL);
SELECT c, code, message, hint FROM unnest(ARRAY[$$sync => 'sometimes'$$, $$sync => NULL$$, $$sync => 'manual', wait => false$$]) c,
    outcome(format('SELECT rag_create_index(''papers'', ''body'', %s)', c));
SELECT rag_create_index('papers', 'body', template => '{title}: {chunk}');
SELECT rag_wait('papers_rag');
SELECT index, source, sync, state, source_rows, coverage, pending, failed, eta, last_error FROM rag_index_status;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'papers'::regclass ORDER BY 1;

-- What writers leave behind, before anybody looks at it
SELECT rag_pause_index('papers_rag');
SELECT state FROM rag_index_status;
UPDATE papers SET reads = reads + 1;
UPDATE papers SET body = body;
SELECT count(*) AS noted_for_nothing FROM rag.change;
BEGIN;
INSERT INTO papers (id, title, body) VALUES (4, 'Tea', 'Green tea is brewed with water that does not boil.');
UPDATE papers SET title = 'Loaf' WHERE id = 1;
UPDATE papers SET title = 'Loaf of bread' WHERE id = 1;
SAVEPOINT s;
UPDATE papers SET body = 'rolled back' WHERE id = 2;
ROLLBACK TO s;
INSERT INTO papers (id, title) VALUES (5, 'No text');
COMMIT;
-- In rag.change, or in rag.queue if the worker is up for another index.
CREATE VIEW noted AS SELECT unnest(keys) AS key FROM rag.change UNION SELECT key::text FROM rag.queue;
SELECT array_agg(key ORDER BY key) AS keys FROM noted;
SELECT pending, oldest_pending_age < interval '1 min' AS young FROM rag_index_status;
BEGIN;
DELETE FROM papers WHERE id = 2;
ROLLBACK;
UPDATE papers SET id = 20 WHERE id = 2;
SELECT array_agg(key ORDER BY key) AS keys FROM noted;
DROP VIEW noted;
SELECT rag_wait('papers_rag', '50 ms') AS in_time;
SELECT count(*) AS unchanged FROM papers_rag WHERE id IN (1, 4, 20);
SELECT rag_resume_index('papers_rag');
SELECT rag_wait('papers_rag');
SELECT id, chunk_seq, chunk FROM papers_rag ORDER BY 1, 2;
SELECT rows, chunks, embedded, removed_rows FROM rag_refresh('papers_rag');
SELECT state, coverage, pending, failed FROM rag_index_status;

-- A row that cannot be indexed hinders no other one.
ALTER TABLE rag.papers_rag_chunks ADD CONSTRAINT harmless CHECK (chunk NOT LIKE '%poison%');
INSERT INTO papers (id, title, body) SELECT i, 'Paper', CASE i WHEN 33 THEN 'This is poison.' ELSE 'This is paper ' || i END FROM generate_series(30, 40) i;
SELECT rag_wait('papers_rag', '1s') AS all_of_them;
SELECT count(*) AS others FROM papers_rag WHERE id BETWEEN 30 AND 40;
SELECT index, key, attempts >= 1 AS tried, error FROM rag_index_errors;
SELECT coverage < 1 AS incomplete, last_error FROM rag_index_status;
ALTER TABLE rag.papers_rag_chunks DROP CONSTRAINT harmless;
SELECT rag_retry('papers_rag');
SELECT rag_wait('papers_rag');
SELECT count(*) AS all_of_them FROM papers_rag WHERE id BETWEEN 30 AND 40;
SELECT count(*) AS errors FROM rag_index_errors;

-- The whole table goes.
TRUNCATE papers;
SELECT rag_wait('papers_rag');
SELECT count(*) AS chunks FROM rag.papers_rag_chunks;

-- New names
ALTER TABLE papers RENAME COLUMN body TO content;
ALTER TABLE papers RENAME COLUMN title TO heading;
ALTER TABLE papers RENAME COLUMN id TO number;
ALTER TABLE papers RENAME TO publications;
SELECT column_name, template, source FROM rag_indexes;
INSERT INTO publications (number, heading, content) VALUES (1, 'Bread', 'Bread is made of flour, water, yeast and salt.');
SELECT rag_wait('papers_rag');
SELECT source_key FROM rag_search('bread', k => 1);
SELECT rows, removed_rows FROM rag_refresh('papers_rag');

-- Two indexes, and what dropping them leaves
SELECT rag_create_index('publications', 'heading', name => 'headings');
SELECT rag_drop_index('papers_rag');
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'publications'::regclass;
DROP VIEW headings;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'publications'::regclass;
SELECT count(*) AS left_behind FROM (SELECT index FROM rag.index UNION ALL SELECT index FROM rag.sync UNION ALL SELECT index FROM rag.queue UNION ALL SELECT index FROM rag.index_column) i;
SELECT count(*) AS tables FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'rag' AND c.relname LIKE '%chunks%';

-- In the writer's statement
SELECT rag_create_index('publications', 'content', name => 'at_once', sync => 'immediate');
INSERT INTO publications (number, heading, content) VALUES (2, 'Moon', 'The moon goes round the earth once in about a month.');
SELECT number, chunk FROM at_once ORDER BY 1;
UPDATE publications SET content = 'A penguin swims.' WHERE number = 2;
DELETE FROM publications WHERE number = 1;
SELECT source_number, chunk FROM rag.at_once_chunks ORDER BY 1;
SELECT state, coverage FROM rag_index_status;
TRUNCATE publications;
SELECT count(*) AS chunks FROM rag.at_once_chunks;
DROP TABLE publications CASCADE;
SELECT count(*) AS indexes FROM rag_indexes;
SELECT count(*) AS tables FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'rag' AND c.relname LIKE '%chunks%';

-- Partitions, written to by either name, and coming and going
CREATE TABLE logs (day date, id integer, body text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
SELECT rag_create_index('logs', 'body');
CREATE TABLE logs_2 PARTITION OF logs FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
SET datestyle = 'German';
INSERT INTO logs VALUES ('2026-01-02', 1, 'The first entry is about bread.'), ('2026-02-03', 1, 'The second entry is about the moon.');
INSERT INTO logs_2 VALUES ('2026-02-04', 2, 'The third entry is about tea.');
RESET datestyle;
UPDATE logs SET day = '2026-02-05' WHERE day = '2026-01-02';
CREATE TABLE logs_3 (day date NOT NULL, id integer NOT NULL, body text, PRIMARY KEY (day, id));
INSERT INTO logs_3 VALUES ('2026-03-04', 1, 'An older entry is about penguins.');
ALTER TABLE logs ATTACH PARTITION logs_3 FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
SELECT rag_wait('logs_rag');
SELECT day, id, chunk FROM logs_rag ORDER BY 1, 2;
ALTER TABLE logs DETACH PARTITION logs_3;
SELECT rag_wait('logs_rag');
SELECT count(*) AS chunks FROM rag.logs_rag_chunks;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'logs_3'::regclass;
DROP TABLE logs_2;
SELECT rag_wait('logs_rag');
SELECT count(*) AS chunks FROM rag.logs_rag_chunks;
SELECT rag_drop_index('logs_rag');
DROP TABLE logs, logs_3;
