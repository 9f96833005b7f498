-- The corpus: an ordinary table. rag_create_index needs no more than a primary key and a text column.
CREATE EXTENSION IF NOT EXISTS pg_rag;
CREATE TABLE IF NOT EXISTS manual (
    path    text PRIMARY KEY,
    title   text NOT NULL,
    chapter text NOT NULL,
    html    text NOT NULL
);
