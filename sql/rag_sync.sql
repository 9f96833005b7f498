-- How an index follows its table: what has changed, what waits, how far it is. See src/rag/sync/mod.rs.

CREATE TABLE rag.sync (
    index            regclass PRIMARY KEY,
    mode             text NOT NULL CHECK (mode IN ('async', 'immediate', 'manual')),
    paused           boolean NOT NULL DEFAULT false,
    filled           boolean NOT NULL DEFAULT false,
    filled_at        timestamptz,
    sweep            text NOT NULL DEFAULT 'none' CHECK (sweep IN ('none', 'rows', 'orphans')),
    sweep_number     bigint NOT NULL DEFAULT 0,
    sweep_after      text[],
    sweep_rows       bigint NOT NULL DEFAULT 0,
    rows_done        bigint NOT NULL DEFAULT 0,
    rows_per_s       real,
    worked_at        timestamptz,
    failures         integer NOT NULL DEFAULT 0,
    retry_at         timestamptz,
    last_error       text,
    last_error_at    timestamptz,
    summaries_done   bigint NOT NULL DEFAULT 0,
    summaries_per_s  real,
    summarized_at    timestamptz,
    summaries_retry_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE rag.sync IS 'how each index follows its table, and how far it is';
COMMENT ON COLUMN rag.sync.filled IS 'whether every row has been looked at once';
COMMENT ON COLUMN rag.sync.filled_at IS 'since when; what was found until then is older in the queue';
COMMENT ON COLUMN rag.sync.sweep IS 'what a comparison of the whole table is at: rows that are not in the index, then chunks whose row is gone';
COMMENT ON COLUMN rag.sync.sweep_number IS 'counts comparisons, so that a new one is not taken for the one that runs';
COMMENT ON COLUMN rag.sync.sweep_after IS 'key of the last row that was compared';
COMMENT ON COLUMN rag.sync.retry_at IS 'when an index that cannot be worked on at all is tried again';
COMMENT ON COLUMN rag.sync.summaries_retry_at IS 'when summaries are tried again that cannot be written at all; texts do not wait for them';

-- Written by the triggers of source tables; no index and no unique key, so that a writer never waits for another
-- writer or for the worker, whatever its isolation level.
CREATE TABLE rag.change (
    index      regclass NOT NULL,
    changed_at timestamptz NOT NULL,
    keys       text[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE rag.change IS 'keys of changed rows as writers leave them; the worker moves them to rag.queue';
COMMENT ON COLUMN rag.change.keys IS 'each element is a key as the text of an array';

CREATE TABLE rag.queue (
    index      regclass NOT NULL,
    key        text[] NOT NULL,
    version    bigint NOT NULL DEFAULT 1,
    queued_at  timestamptz NOT NULL,
    due_at     timestamptz NOT NULL,
    claimed    boolean NOT NULL DEFAULT false,
    attempts   integer NOT NULL DEFAULT 0,
    failed     boolean NOT NULL DEFAULT false,
    error      text,
    error_at   timestamptz,
    summaries  integer NOT NULL DEFAULT 0,
    PRIMARY KEY (index, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX ON rag.queue (index, due_at) WHERE NOT failed;
-- rag_wait and the worker ask whether there is any.
CREATE INDEX ON rag.queue (index) WHERE failed;
COMMENT ON TABLE rag.queue IS 'rows that an index has to look at again, one entry for each';
COMMENT ON COLUMN rag.queue.version IS 'counts changes, so that an entry which changed while it was worked on stays';
COMMENT ON COLUMN rag.queue.summaries IS 'summaries that are still to be written, once the text of the row is in the index; 0 before';
COMMENT ON COLUMN rag.queue.due_at IS 'when the entry may be taken: at once, after a pause, or when its lease ends';

CREATE TABLE rag.index_column (
    index   regclass NOT NULL,
    name    name NOT NULL,
    number  smallint NOT NULL,
    parts   integer NOT NULL,
    PRIMARY KEY (index, name)
);
COMMENT ON TABLE rag.index_column IS 'columns of source tables that indexes use, by their number; not dumped, since numbers change';
COMMENT ON COLUMN rag.index_column.parts IS 'tables that the source consisted of when it was compared last';

CREATE TABLE rag.replaced (
    chunks      regclass PRIMARY KEY,
    replaced_by xid8 NOT NULL
);
COMMENT ON TABLE rag.replaced IS 'chunk tables in whose place rag_reindex put another; dropped when no snapshot needs them';

SELECT pg_catalog.pg_extension_config_dump('rag.sync', '');
SELECT pg_catalog.pg_extension_config_dump('rag.change', '');
SELECT pg_catalog.pg_extension_config_dump('rag.queue', '');
-- The tables themselves are dumped like any other, and somebody has to drop them.
SELECT pg_catalog.pg_extension_config_dump('rag.replaced', '');

CREATE FUNCTION rag.note_change() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'pg_rag_note_change';
COMMENT ON FUNCTION rag.note_change() IS 'trigger on source tables that tells their indexes which rows have changed';

CREATE FUNCTION rag.settle() RETURNS event_trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'pg_rag_settle';
COMMENT ON FUNCTION rag.settle() IS 'event trigger function: indexes follow what DDL does to their tables';

CREATE EVENT TRIGGER rag_settle_ddl ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE')
    EXECUTE FUNCTION rag.settle();
COMMENT ON EVENT TRIGGER rag_settle_ddl IS 'tells pg_rag of new names and partitions';

CREATE EVENT TRIGGER rag_settle_drop ON sql_drop EXECUTE FUNCTION rag.settle();
COMMENT ON EVENT TRIGGER rag_settle_drop IS 'tells pg_rag of dropped tables and views';

CREATE FUNCTION rag_wait(index regclass, timeout interval DEFAULT '1 min') RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_wait_wrapper';
COMMENT ON FUNCTION rag_wait(regclass, interval) IS
    'waits until an index has everything that was committed before; false if it has not in time, or cannot';

CREATE FUNCTION rag_pause_index(index regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_pause_index_wrapper';
COMMENT ON FUNCTION rag_pause_index(regclass) IS 'stops the worker from working on an index; changes are still noted';

CREATE FUNCTION rag_resume_index(index regclass) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_resume_index_wrapper';
COMMENT ON FUNCTION rag_resume_index(regclass) IS 'lets the worker go on after rag_pause_index';

CREATE FUNCTION rag_retry(index regclass) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'rag_retry_wrapper';
COMMENT ON FUNCTION rag_retry(regclass) IS 'tries rows again now that failed; returns how many';

CREATE FUNCTION rag.source_rows(index regclass) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 10000 AS 'MODULE_PATHNAME', 'source_rows_wrapper';
COMMENT ON FUNCTION rag.source_rows(regclass) IS
    'rows of an index'' table, for who may read the index: counted if the table is small, else as the planner estimates them';

CREATE FUNCTION rag.sync_worker() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'sync_worker_wrapper';
COMMENT ON FUNCTION rag.sync_worker() IS 'process id of the worker of this database; starts one if something waits for it';

-- The views run with the rights of their owner, since the tables above are closed; who asks decides which rows are shown.
CREATE VIEW rag_index_status WITH (security_barrier = true) AS
    WITH state AS (
        SELECT i.index, i.source, i.model, i.replaces, coalesce(y.mode, 'manual') AS mode, coalesce(y.paused, false) AS paused, y.filled,
               y.sweep, y.sweep_rows, y.last_error_at, y.retry_at,
               CASE WHEN pg_catalog.pg_has_role(v.relowner, 'USAGE') THEN y.last_error END AS last_error,
               CASE WHEN y.worked_at > pg_catalog.clock_timestamp() - interval '10 s' THEN y.rows_per_s END AS rows_per_s,
               y.worked_at, y.rows_done, y.summaries_done, y.summaries_retry_at,
               CASE WHEN y.summarized_at > pg_catalog.clock_timestamp() - interval '1 min' THEN y.summaries_per_s END AS summaries_per_s,
               rag.source_rows(i.index) AS source_rows, w.waiting + c.waiting AS pending, w.failed, w.failed_texts,
               w.summaries AS summaries_pending,
               least(w.oldest, c.oldest) AS oldest
          FROM rag.index i
          JOIN pg_catalog.pg_class v ON v.oid = i.index
          LEFT JOIN rag.sync y ON y.index = i.index
          CROSS JOIN LATERAL (
              SELECT pg_catalog.count(*) FILTER (WHERE NOT q.failed AND q.summaries = 0) AS waiting,
                     pg_catalog.count(*) FILTER (WHERE q.failed) AS failed,
                     pg_catalog.count(*) FILTER (WHERE q.failed AND q.summaries = 0) AS failed_texts,
                     coalesce(pg_catalog.sum(q.summaries) FILTER (WHERE NOT q.failed), 0)::bigint AS summaries,
                     pg_catalog.min(q.queued_at) FILTER (WHERE NOT q.failed AND q.summaries = 0) AS oldest
                FROM rag.queue q WHERE q.index = i.index) w
          CROSS JOIN LATERAL (
              SELECT coalesce(pg_catalog.sum(pg_catalog.cardinality(h.keys)), 0)::bigint AS waiting, pg_catalog.min(h.changed_at) AS oldest
                FROM rag.change h WHERE h.index = i.index) c
         WHERE pg_catalog.has_table_privilege(i.index, 'SELECT')),
    counted AS (
        SELECT s.*, CASE WHEN s.sweep = 'rows' AND NOT s.filled THEN greatest(s.source_rows - s.sweep_rows, 0) ELSE 0 END AS unseen
          FROM state s)
    SELECT c.index, c.source, c.model, c.mode AS sync,
           CASE WHEN c.mode = 'manual' THEN 'manual'
                WHEN c.paused THEN 'paused'
                WHEN c.retry_at IS NOT NULL OR c.summaries_retry_at IS NOT NULL THEN 'failing'
                WHEN c.pending > 0 OR c.unseen > 0 THEN 'indexing'
                WHEN c.sweep <> 'none' THEN 'checking'
                WHEN c.summaries_pending > 0 THEN 'summarizing'
                ELSE 'ready' END AS state,
           c.source_rows,
           CASE WHEN c.mode = 'manual' OR NOT c.filled AND c.sweep = 'none' THEN NULL
                WHEN c.source_rows = 0 THEN 1
                ELSE pg_catalog.round(greatest(0, 1 - (c.pending + c.failed_texts + c.unseen)::numeric / greatest(c.source_rows, c.pending + c.failed_texts + c.unseen)), 4)
                END AS coverage,
           c.pending + c.unseen AS pending, c.failed, c.rows_per_s,
           CASE WHEN c.rows_per_s > 0 AND c.pending + c.unseen > 0
                THEN pg_catalog.date_trunc('second', pg_catalog.make_interval(secs => (c.pending + c.unseen) / c.rows_per_s))
                WHEN c.summaries_per_s > 0 AND c.pending + c.unseen = 0 AND c.summaries_pending > 0
                THEN pg_catalog.date_trunc('second', pg_catalog.make_interval(secs => c.summaries_pending / c.summaries_per_s)) END AS eta,
           pg_catalog.clock_timestamp() - c.oldest AS oldest_pending_age,
           c.rows_done, c.worked_at, c.last_error, c.last_error_at, c.retry_at,
           CASE WHEN c.mode <> 'manual' THEN rag.sync_worker() END AS worker_pid, c.replaces,
           c.summaries_pending, c.summaries_done, c.summaries_per_s
      FROM counted c;
COMMENT ON VIEW rag_index_status IS 'how complete each index is, what waits, how fast it goes, and what went wrong';

CREATE VIEW rag_index_errors WITH (security_barrier = true) AS
    SELECT q.index, q.key, q.attempts, q.failed, q.error, q.error_at, CASE WHEN NOT q.failed THEN q.due_at END AS next_attempt_at
      FROM rag.queue q JOIN pg_catalog.pg_class v ON v.oid = q.index
     WHERE q.error IS NOT NULL AND pg_catalog.pg_has_role(v.relowner, 'USAGE');
COMMENT ON VIEW rag_index_errors IS 'rows that could not be indexed, for the owner of the index';
