-- A picture of an index.
CREATE TABLE places (id integer PRIMARY KEY, owner name NOT NULL DEFAULT current_user, title text, kind text, height numeric, built date, body text NOT NULL);
INSERT INTO places (id, title, kind, height, built, body)
    SELECT i, 'Place ' || i, CASE i % 3 WHEN 0 THEN 'tower' WHEN 1 THEN 'bridge' END, i * 10.5, date '1900-01-01' + i * 100, 'The ' || CASE i % 3 WHEN 0 THEN 'tower of brick' WHEN 1 THEN 'bridge of steel' ELSE 'garden with roses' END || ' number ' || i || ' is in town.'
      FROM generate_series(1, 30) i;
UPDATE places SET title = '</title></svg><script>alert("1")</script>&', kind = '<b>bold</b>' WHERE id = 30;
SELECT rag_create_index('places', 'body', sync => 'manual');

-- A document that is well-formed, and the same every time
SELECT xml_is_well_formed_document(m) AS xml, m LIKE '<svg xmlns=%</svg>' || E'\n' AS svg, m ~ '<script|href|@import|url\(| on[a-z]+=' AS loads_or_runs, m = rag_map('places_rag') AS same,
       (SELECT count(*) FROM regexp_matches(m, '<circle class="p"', 'g')) AS points
  FROM rag_map('places_rag') m;
SELECT m LIKE '<!DOCTYPE html>%<svg %' AS html, m LIKE '%Place 7%' AS titles FROM rag_map(format => 'html') m;
SELECT m <> rag_map('places_rag', layout => 'pca') AS two_layouts, rag_map('places_rag', layout => 'pca') ~ '30 chunks, by their two principal components, with [0-9.]+ % and [0-9.]+ % of the variance' AS says_how FROM rag_map('places_rag') m;

-- Colours: categories with their counts, scales of numbers and times
SELECT xml_is_well_formed_document(m) AS xml, (SELECT array_agg(t[1]) FROM regexp_matches(m, '<text x="[0-9]+" y="[0-9]+">([^<]*)</text>', 'g') t) AS legend, m LIKE '%<script>%' AS hostile
  FROM rag_map('places_rag', 'kind') m;
SELECT c, (SELECT array_agg(t[1]) FROM regexp_matches(rag_map('places_rag', c), '<text x="[0-9]+" y="[0-9]+">([^<]*)</text>', 'g') t) AS ends FROM unnest(ARRAY['height', 'built', 'id']) c;
SELECT (SELECT array_agg(t[1]) FROM regexp_matches(rag_map('places_rag', 'title'), 'y="[0-9]+">([0-9]+ others[^<]*)<', 'g') t) AS others;
SELECT rag_map('places_rag', title => 'kind') ~ '<title>tower' AS other_title, rag_map('places_rag', title => 'kind') ~ E'<title>2\n' AS key_where_there_is_none;

-- A sample
SELECT (SELECT count(*) FROM regexp_matches(m, '<circle class="p"', 'g')) AS points, m LIKE '%7 of 30 chunks%' AS says_so, m = rag_map('places_rag', limit_points => 7) AS same FROM rag_map('places_rag', limit_points => 7) m;

-- Only what the caller may see
CREATE ROLE regress_rag_viewer;
GRANT SELECT ON places TO regress_rag_viewer;
UPDATE places SET owner = 'regress_rag_viewer' WHERE id <= 4;
ALTER TABLE places ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON places USING (owner = current_user);
SET ROLE regress_rag_viewer;
SELECT (SELECT count(*) FROM regexp_matches(m, '<circle class="p"', 'g')) AS points, m LIKE '%>4 chunks%' AS counted, m LIKE '%Place 7%' AS others FROM rag_map('places_rag') m;
RESET ROLE;
REVOKE SELECT ON places FROM regress_rag_viewer;
GRANT SELECT (id, body) ON places TO regress_rag_viewer;
SET ROLE regress_rag_viewer;
SELECT code, message FROM outcome($$SELECT rag_map('places_rag', 'kind')$$);
RESET ROLE;
ALTER TABLE places DISABLE ROW LEVEL SECURITY;

SELECT c, code, message FROM unnest(ARRAY['''places''', '''places_rag'', ''no_column''', '''places_rag'', title => ''no_column''', '''places_rag'', ''ctid''', '''places_rag'', limit_points => 0', '''places_rag'', limit_points => 20001', '''places_rag'', limit_points => NULL', '''places_rag'', format => ''png''', '''places_rag'', format => NULL', '''places_rag'', layout => ''umap''']) c,
    outcome(format('SELECT rag_map(%s)', c));

-- Nothing, and one point
DELETE FROM places WHERE id > 1;
SELECT chunks FROM rag_refresh('places_rag');
SELECT xml_is_well_formed_document(rag_map('places_rag', 'height')) AS one;
DELETE FROM places;
SELECT chunks FROM rag_refresh('places_rag');
SELECT xml_is_well_formed_document(m) AS none, m LIKE '%>0 chunks%' AS says_so FROM rag_map('places_rag', 'kind') m;
SELECT rag_drop_index('places_rag');
DROP TABLE places;
DROP ROLE regress_rag_viewer;
