-- What the catalogue says of the access method hnsw: names of the operator classes as in pgvector, for pg_dump and clients.
SELECT amname, amtype FROM pg_am WHERE amname = 'hnsw';
SELECT property, pg_indexam_has_property(oid, property) AS has
  FROM pg_am, unnest(ARRAY['can_order', 'can_unique', 'can_multi_col', 'can_exclude', 'can_include']) property
 WHERE amname = 'hnsw' ORDER BY property COLLATE "C";
SELECT c.opcname, c.opcintype::regtype, c.opcdefault, c.opckeytype, f.opfname, amvalidate(c.oid) AS valid
  FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod JOIN pg_opfamily f ON f.oid = c.opcfamily
 WHERE m.amname = 'hnsw' ORDER BY c.opcname COLLATE "C";
SELECT c.opcname, a.amopstrategy AS strategy, a.amopopr::regoperator AS operator, a.amoppurpose AS purpose, s.opfname AS sorts
  FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod JOIN pg_amop a ON a.amopfamily = c.opcfamily
  LEFT JOIN pg_opfamily s ON s.oid = a.amopsortfamily
 WHERE m.amname = 'hnsw' AND NOT c.opcdefault ORDER BY c.opcname COLLATE "C", a.amopstrategy;
SELECT c.opcname, p.amprocnum AS number, p.amproc::regprocedure AS function
  FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod JOIN pg_amproc p ON p.amprocfamily = c.opcfamily
 WHERE m.amname = 'hnsw' AND NOT c.opcdefault ORDER BY c.opcname COLLATE "C", p.amprocnum;
-- Operator families of filter columns: how many operators, and their strategies.
SELECT f.opfname, count(*) AS operators, array_agg(DISTINCT a.amopstrategy) AS strategies, bool_and(a.amoppurpose = 's') AS search
  FROM pg_opfamily f JOIN pg_am m ON m.oid = f.opfmethod JOIN pg_amop a ON a.amopfamily = f.oid
 WHERE m.amname = 'hnsw' AND EXISTS (SELECT FROM pg_opclass c WHERE c.opcfamily = f.oid AND c.opcdefault)
 GROUP BY f.opfname ORDER BY f.opfname COLLATE "C";
-- Nobody calls these from SQL.
SELECT code, message FROM outcome('SELECT hnsw_handler(NULL)');
SELECT code, message FROM outcome('SELECT hnsw_vector_l2_support(NULL)');
