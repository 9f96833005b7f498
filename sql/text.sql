-- Text functions.

CREATE FUNCTION chunk(
    input text, strategy text DEFAULT 'recursive', size integer DEFAULT 200, overlap integer DEFAULT 20,
    unit text DEFAULT 'token', model text DEFAULT NULL)
    RETURNS TABLE (seq integer, content text, char_start integer, char_end integer, tokens integer, headings text[])
    LANGUAGE c STABLE PARALLEL SAFE ROWS 20 COST 1000 AS 'MODULE_PATHNAME', 'chunk_wrapper';
COMMENT ON FUNCTION chunk(text, text, integer, integer, text, text) IS
    'cuts a text into pieces; substr(input, char_start + 1, char_end - char_start) = content';

CREATE FUNCTION tokenize(input text, model text DEFAULT NULL) RETURNS integer[]
    LANGUAGE c STABLE PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'tokenize_wrapper';
COMMENT ON FUNCTION tokenize(text, text) IS 'token ids of a text, without the special tokens that a model puts around it';

CREATE FUNCTION detokenize(tokens integer[], model text DEFAULT NULL) RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'detokenize_wrapper';
COMMENT ON FUNCTION detokenize(integer[], text) IS 'text that token ids stand for';

CREATE FUNCTION token_count(input text, model text DEFAULT NULL) RETURNS integer
    LANGUAGE c STABLE PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'token_count_wrapper';
COMMENT ON FUNCTION token_count(text, text) IS 'number of tokens of a text';

CREATE FUNCTION html_to_markdown(html text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'html_to_markdown_wrapper';
COMMENT ON FUNCTION html_to_markdown(text) IS 'readable Markdown of an HTML document, without navigation and scripts';

CREATE FUNCTION extract_text(document bytea, type text DEFAULT NULL, encoding text DEFAULT NULL) RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE COST 100000 AS 'MODULE_PATHNAME', 'extract_text_wrapper';
COMMENT ON FUNCTION extract_text(bytea, text, text) IS
    'text of a document (PDF, DOCX, PPTX, XLSX, EPUB, HTML, Markdown, plain text), as Markdown where it has a structure';

CREATE FUNCTION extract_pages(document bytea, type text DEFAULT NULL, encoding text DEFAULT NULL)
    RETURNS TABLE (page integer, name text, headings text[], content text)
    LANGUAGE c STABLE PARALLEL SAFE ROWS 20 COST 100000 AS 'MODULE_PATHNAME', 'extract_pages_wrapper';
COMMENT ON FUNCTION extract_pages(bytea, text, text) IS
    'pages, slides, sheets or chapters of a document, with their names and headings';

CREATE FUNCTION extract_properties(document bytea, type text DEFAULT NULL, encoding text DEFAULT NULL) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL SAFE COST 100000 AS 'MODULE_PATHNAME', 'extract_properties_wrapper';
COMMENT ON FUNCTION extract_properties(bytea, text, text) IS
    'what a document says of itself: type, pages, title, author, subject, language, created';
