-- Runs once in the database of the isolation tests: the extension, and what the specs use to stop sessions and to look.
CREATE EXTENSION pg_rag;

-- The next rows of an open cursor, by their ids: one line of output.
CREATE FUNCTION next_ids(source refcursor, count integer DEFAULT 1000000) RETURNS integer[] LANGUAGE plpgsql AS $$
DECLARE
    ids integer[] := '{}';
    id integer;
BEGIN
    FOR n IN 1..count LOOP
        FETCH source INTO id;
        EXIT WHEN NOT FOUND;
        ids := ids || id;
    END LOOP;
    RETURN ids;
END
$$;

-- What is wrong with an index under `<->`, no row if nothing is: its pages, the rows that a search of the whole index
-- returns, and the order of the first of them, both against a sort. The table has a column id.
CREATE FUNCTION faults(index regclass, point text DEFAULT '[0,0]') RETURNS SETOF text LANGUAGE plpgsql
    SET enable_seqscan = off SET hnsw.iterative_scan = relaxed_order SET hnsw.ef_search = 400
AS $$
DECLARE
    source regclass := (SELECT indrelid FROM pg_index WHERE indexrelid = index);
    distance text := format('(%s <-> %L)', pg_get_indexdef(index, 1, true), point);
    by_index text := format('SELECT id, %s AS distance FROM %s ORDER BY %1$s', distance, source);
    by_sort text := format('SELECT id, %s AS distance FROM %s ORDER BY %1$s + 0', distance, source);
    plan json;
    found integer[];
    expected integer[];
    found_distances float8[];
    expected_distances float8[];
BEGIN
    RETURN QUERY SELECT 'page: ' || finding FROM hnsw_check(index) finding;
    EXECUTE 'EXPLAIN (FORMAT json) ' || by_index INTO plan;
    IF plan #>> '{0,Plan,Index Name}' IS DISTINCT FROM index::text THEN
        RETURN NEXT 'the index is not used: ' || plan;
    END IF;
    EXECUTE format('SELECT array_agg(id), (array_agg(distance))[:10] FROM (%s) q', by_index) INTO found, found_distances;
    EXECUTE format('SELECT array_agg(id), (array_agg(distance))[:10] FROM (%s) q', by_sort) INTO expected, expected_distances;
    RETURN QUERY
        SELECT format('row %s: %s times by index, %s times in the table', id, coalesce(f.n, 0), coalesce(e.n, 0))
          FROM (SELECT id, count(*) AS n FROM unnest(found) id GROUP BY id) f
          FULL JOIN (SELECT id, count(*) AS n FROM unnest(expected) id GROUP BY id) e USING (id)
         WHERE f.n IS DISTINCT FROM e.n ORDER BY id;
    IF found_distances IS DISTINCT FROM expected_distances THEN
        RETURN NEXT format('nearest by index: %s, by sort: %s', found_distances, expected_distances);
    END IF;
END
$$;

-- A count of hnsw_index_info: rows, nodes, dead_nodes, free_nodes, unfinished_nodes.
CREATE FUNCTION count_of(index regclass, what text) RETURNS integer LANGUAGE sql AS
    $$ SELECT (hnsw_index_info(index) ->> what)::integer $$;

-- Places in the table of rows that were deleted: whether new rows lie there now.
CREATE TABLE old_place (place tid);

-- Waits while another session holds the advisory lock 1.
CREATE FUNCTION pass_gate() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_lock_shared(1);
    PERFORM pg_advisory_unlock_shared(1);
END
$$;

-- Stops a statement before a row: the trigger has the condition which.
CREATE FUNCTION stop_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pass_gate();
    RETURN NEW;
END
$$;

-- Stops whoever computes an index's expression over the vector that begins with `gate.at`: in the middle of a build, or of
-- a search that reads rows. Not really immutable: only its value is.
CREATE FUNCTION behind_gate(v vector) RETURNS vector IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF (v::real[])[1] = current_setting('gate.at', true)::real THEN
        PERFORM pass_gate();
    END IF;
    RETURN v;
END
$$;

-- A vector of 64 dimensions, whose codes are estimates: searches read rows for their distances. `[id, 0, 0, …]`
CREATE FUNCTION long_vector(id integer) RETURNS vector(64) IMMUTABLE LANGUAGE sql AS
    $$ SELECT (ARRAY[id] || array_fill(0, ARRAY[63]))::vector $$;
