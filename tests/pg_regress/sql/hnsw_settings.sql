-- Storage parameters and settings of the index hnsw: names and ranges of pgvector's.

-- Storage parameters
CREATE TABLE item (v vector(3));
SELECT parameters, code, message FROM
    unnest(ARRAY['m = 1', 'm = 2, ef_construction = 4', 'm = 100', 'm = 100, ef_construction = 200', 'm = 101', 'ef_construction = 3',
                 'ef_construction = 1000', 'ef_construction = 1001', 'm = 16, ef_construction = 31', 'm = 16, ef_construction = 32',
                 'm = many', 'fillfactor = 70', 'lists = 100']) parameters,
    outcome(format('CREATE INDEX ON item USING hnsw (v vector_l2_ops) WITH (%s)', parameters));
DROP TABLE item;

-- They are checked together when the index is built.
CREATE TABLE item (v vector(3));
CREATE INDEX item_v ON item USING hnsw (v vector_l2_ops) WITH (m = 8, ef_construction = 16);
SELECT reloptions FROM pg_class WHERE relname = 'item_v';
ALTER INDEX item_v SET (m = 9);
SELECT * FROM outcome('REINDEX INDEX item_v');
ALTER INDEX item_v SET (ef_construction = 18);
SELECT * FROM outcome('REINDEX INDEX item_v');
ALTER INDEX item_v RESET (m, ef_construction);
SELECT reloptions FROM pg_class WHERE relname = 'item_v';
SELECT * FROM outcome('ALTER INDEX item_v SET (m = 0)');
DROP TABLE item;

-- Settings
SELECT name, vartype AS type, context, min_val AS least, max_val AS most, enumvals AS words, boot_val AS default
  FROM pg_settings WHERE name LIKE 'hnsw.%' ORDER BY name COLLATE "C";
SELECT setting, code, message FROM
    unnest(ARRAY['ef_search = 0', 'ef_search = 1', 'ef_search = 1000', 'ef_search = 1001', 'iterative_scan = on', 'iterative_scan = relaxed_order',
                 'max_scan_tuples = 0', 'max_scan_tuples = 20000', 'scan_mem_multiplier = 0', 'scan_mem_multiplier = 1001',
                 'scan_mem_multiplier = 1.5', 'target_recall = 1.5', 'target_recall = 0.95']) setting,
    outcome('SET hnsw.' || setting);
-- Nobody can make one up.
SELECT * FROM outcome('SET hnsw.no_such_setting = 1');
RESET hnsw.ef_search;
RESET hnsw.iterative_scan;
RESET hnsw.max_scan_tuples;
RESET hnsw.scan_mem_multiplier;
RESET hnsw.target_recall;
