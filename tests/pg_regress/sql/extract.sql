-- extract_text, extract_pages, extract_properties
SELECT extract_text('plain text');
SELECT extract_text('\xa3f36476', encoding => 'WIN1250') = 'Łódv' AS decoded;
SELECT extract_text('<html><h1>Title</h1><p>One <b>two</b>.</html>');
SELECT page, name, headings, content FROM extract_pages(E'# One\n\ntext\n\n## Two\n', 'markdown');
SELECT extract_properties('<!DOCTYPE html><title>A page</title><p>x');
SELECT extract_text(NULL) IS NULL AS null, count(*) FROM extract_pages(NULL);
-- what cannot be read
\set VERBOSITY default
SELECT extract_text('GIF89a');
SELECT extract_text('GIF89a', 'text');
SELECT extract_text('x', 'tex');
SELECT extract_text('x', encoding => 'MULE_INTERNAL');
SELECT extract_text('\xa3f36476');
SELECT extract_text('%PDF-1.4 and nothing else');
SELECT extract_text('\x504b0304');
\set VERBOSITY terse
SELECT extract_text(convert_to(repeat(' ', 128 * 1024 * 1024 + 1), 'SQL_ASCII'));
