-- Every object of the extension says what it is.
SELECT pg_describe_object(d.classid, d.objid, 0) AS object_without_comment
  FROM pg_depend d
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'pg_rag'
  LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
 WHERE d.deptype = 'e'
   AND obj_description(d.objid, d.classid::regclass::name) IS NULL
   -- PostgreSQL's own companions: array types and the row types of tables and views.
   AND coalesce(t.typelem = 0 AND t.typrelid = 0, true)
 ORDER BY 1;
