-- Who sees what of an index: owner, granted, denied, and tenants under a policy.
CREATE ROLE regress_rag_owner;
CREATE ROLE regress_rag_granted;
CREATE ROLE regress_rag_denied;
CREATE ROLE regress_rag_columns;
CREATE ROLE regress_rag_tenant_a;
CREATE ROLE regress_rag_tenant_b;
CREATE SCHEMA regress_rag AUTHORIZATION regress_rag_owner;
GRANT USAGE ON SCHEMA regress_rag TO PUBLIC;
SET ROLE regress_rag_owner;
CREATE TABLE regress_rag.notes (id integer PRIMARY KEY, tenant name NOT NULL, title text NOT NULL, body text NOT NULL);
INSERT INTO regress_rag.notes
    SELECT i, 'regress_rag_tenant_' || CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, 'Note ' || i, format('Secret %s of tenant %s: the code of the safe is %s.', i, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END, i * 1111)
      FROM generate_series(1, 6) i;
GRANT SELECT ON regress_rag.notes TO regress_rag_granted, regress_rag_tenant_a, regress_rag_tenant_b;
GRANT SELECT (id, title) ON regress_rag.notes TO regress_rag_columns;
SELECT rag_create_index('regress_rag.notes', 'body', sync => 'manual');
GRANT SELECT ON regress_rag.notes_rag TO regress_rag_granted, regress_rag_denied, regress_rag_columns, regress_rag_tenant_a, regress_rag_tenant_b;
RESET ROLE;

-- What a role gets: rows of the view and of the chunk table, of each kind of search, of answers and pictures. Errors by their code.
CREATE FUNCTION seen(OUT what text, OUT result text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    chunks text := (SELECT r.chunks::text FROM rag_indexes r WHERE r.index::text ~ 'notes_rag');
    statement text;
BEGIN
    FOR what, statement IN VALUES
        ('view', 'SELECT string_agg(id::text, '','' ORDER BY id) FROM regress_rag.notes_rag'),
        ('chunks', format('SELECT string_agg(source_id::text, '','' ORDER BY source_id) FROM %s', chunks)),
        ('words of chunks', format('SELECT count(*)::text FROM %s WHERE lexemes @@ ''secret''', chunks)),
        ('vector search', 'SELECT string_agg(source_key->>''id'', '','' ORDER BY source_key) FROM rag_search(''code of the safe'', ''regress_rag.notes_rag'', mode => ''vector'')'),
        ('text search', 'SELECT string_agg(source_key->>''id'', '','' ORDER BY source_key) FROM rag_search(''code of the safe'', ''regress_rag.notes_rag'', mode => ''text'')'),
        ('hybrid search', 'SELECT string_agg(source_key->>''id'', '','' ORDER BY source_key) FROM rag_search(''code of the safe'', ''regress_rag.notes_rag'', mmr_lambda => 0.5, neighbors => 2)'),
        ('condition', 'SELECT string_agg(source_key->>''id'', '','' ORDER BY source_key) FROM rag_search(''code'', ''regress_rag.notes_rag'', where_sql => ''tenant ~ ''''_b$'''''')'),
        ('sources of an answer', 'SELECT string_agg(s->''source_key''->>''id'', '','' ORDER BY s->''source_key'') FROM rag_ask(''What is the code of the safe?'', ''regress_rag.notes_rag'', k => 6, max_tokens => 1, context_sentences => NULL) a, jsonb_array_elements(a.sources) s'),
        ('quotes of an answer', 'SELECT string_agg(DISTINCT q->''source_key''->>''id'', '','') IS NOT NULL AND bool_and(q->>''quote'' IN (SELECT body FROM regress_rag.notes)) FROM rag_ask(''What is the code of the safe?'', ''regress_rag.notes_rag'', k => 6, max_tokens => 1) a, jsonb_array_elements(a.citations) q'),
        ('picture', 'SELECT string_agg(t[1], '','' ORDER BY t[1]) FROM regexp_matches(rag_map(''regress_rag.notes_rag''), ''<title>Note ([0-9]+)'', ''g'') t')
    LOOP
        BEGIN
            EXECUTE statement INTO result;
            result := coalesce(result, '-');
        EXCEPTION WHEN insufficient_privilege THEN
            result := 'denied: ' || SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;
SET ROLE regress_rag_owner;
SELECT * FROM seen();
SET ROLE regress_rag_granted;
SELECT * FROM seen();
SET ROLE regress_rag_denied;
SELECT * FROM seen();
SET ROLE regress_rag_columns;
SELECT * FROM seen();
RESET ROLE;

-- With a policy by tenant
SET ROLE regress_rag_owner;
ALTER TABLE regress_rag.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_tenant ON regress_rag.notes USING (tenant = current_user);
SET ROLE regress_rag_tenant_a;
SELECT * FROM seen();
SET ROLE regress_rag_tenant_b;
SELECT * FROM seen();
-- Granted the table, but no tenant
SET ROLE regress_rag_granted;
SELECT * FROM seen();
-- The owner is above the policy, unless it is forced.
SET ROLE regress_rag_owner;
SELECT * FROM seen() WHERE what IN ('view', 'hybrid search');
ALTER TABLE regress_rag.notes FORCE ROW LEVEL SECURITY;
SELECT * FROM seen() WHERE what IN ('view', 'hybrid search', 'picture');
ALTER TABLE regress_rag.notes NO FORCE ROW LEVEL SECURITY;
-- A function of whoever asks, in a condition, is shown no row that the policy hides.
SET ROLE regress_rag_tenant_a;
CREATE TEMP TABLE shown (title text);
CREATE FUNCTION pg_temp.note(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN INSERT INTO shown VALUES ($1); RETURN true; END $$;
SELECT count(*) FROM rag_search('code', 'regress_rag.notes_rag', where_sql => 'pg_temp.note(title)');
SELECT array_agg(DISTINCT title ORDER BY title) FROM shown;

-- Status: names of what exists, as in PostgreSQL's own statistics; keys of rows and texts of errors, which may quote them, for the owner.
RESET ROLE;
UPDATE rag.sync SET last_error = 'a secret of row 3', last_error_at = now() WHERE index = 'regress_rag.notes_rag'::regclass;
INSERT INTO rag.queue (index, key, queued_at, due_at, failed, error, error_at) VALUES ('regress_rag.notes_rag', '{3}', now(), now(), true, 'a secret of row 3', now());
CREATE FUNCTION status(OUT what text, OUT result text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    FOR what, statement IN VALUES
        ('rag_index_status', 'SELECT string_agg(format(''%s rows %s failed %s error %s'', index, source_rows, failed, last_error), '', '') FROM rag_index_status'),
        ('rag_index_errors', 'SELECT string_agg(format(''%s %s %s'', index, key, error), '', '') FROM rag_index_errors'),
        ('rag_index_progress', 'SELECT count(*)::text FROM rag_index_progress'),
        ('rag_indexes', 'SELECT string_agg(format(''%s over %s'', index, source), '', '') FROM rag_indexes'),
        ('rag.queue', 'SELECT count(*)::text FROM rag.queue'), ('rag.change', 'SELECT count(*)::text FROM rag.change'), ('rag.sync', 'SELECT count(*)::text FROM rag.sync'),
        ('rag_refresh', 'SELECT count(*)::text FROM rag_refresh(''regress_rag.notes_rag'')'), ('rag_pause_index', 'SELECT ''x'' FROM rag_pause_index(''regress_rag.notes_rag'')'),
        ('rag_retry', 'SELECT rag_retry(''regress_rag.notes_rag'')::text'), ('rag_drop_index', 'SELECT ''x'' FROM rag_drop_index(''regress_rag.notes_rag'')')
    LOOP
        BEGIN
            -- The owner may; that it does is not asked here.
            CONTINUE WHEN what ~ '^rag_(refresh|pause|retry|drop)' AND current_user = 'regress_rag_owner';
            EXECUTE statement INTO result;
            result := coalesce(result, '-');
        EXCEPTION WHEN insufficient_privilege THEN
            result := 'denied: ' || SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;
SET ROLE regress_rag_owner;
SELECT * FROM status();
SET ROLE regress_rag_tenant_a;
SELECT * FROM status();
RESET ROLE;
REVOKE SELECT ON regress_rag.notes_rag FROM regress_rag_denied;
SET ROLE regress_rag_denied;
SELECT * FROM status();

SET ROLE regress_rag_owner;
SELECT rag_drop_index('regress_rag.notes_rag');
RESET ROLE;
DROP FUNCTION pg_temp.note;
DROP TABLE shown;
DROP SCHEMA regress_rag CASCADE;
DROP FUNCTION seen, status;
DROP ROLE regress_rag_owner, regress_rag_granted, regress_rag_denied, regress_rag_columns, regress_rag_tenant_a, regress_rag_tenant_b;
