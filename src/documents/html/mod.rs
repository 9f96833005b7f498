//! HTML to Markdown that reads well and retrieves well: headings, paragraphs, lists, fenced code and tables stay;
//! navigation, scripts, styles, controls and link targets go.
//!
//! A single pass over the text: [`scan`] splits it into tags and text, [`markdown`] writes. There is no tree, hence
//! no recursion and nothing that grows faster than the input, however deep or broken the document is.

mod entities;
mod markdown;
mod scan;
mod table;

use crate::encoding;
use crate::error::{DocumentError, Result};
use crate::limits::Guard;
use encoding_rs::Encoding;

/// Largest document that is converted.
pub const MAX_HTML_BYTES: usize = 32 * 1024 * 1024;

/// Largest result. Repeated indentation of hostile nesting can make it larger than the document, by a small factor.
const MAX_MARKDOWN_BYTES: usize = 2 * MAX_HTML_BYTES;

/// Readable Markdown of one document; it ends with a newline unless it is empty.
///
/// Any text is accepted: what is not HTML comes out as paragraphs. Documents over [`MAX_HTML_BYTES`] are refused.
pub fn to_markdown(html: &str) -> Result<String> {
    convert(html, None)
}

/// The same under a guard, where there is one.
pub(crate) fn convert(html: &str, guard: Option<&Guard>) -> Result<String> {
    if html.len() > MAX_HTML_BYTES {
        return Err(DocumentError::InputLimit { bytes: html.len(), limit: MAX_HTML_BYTES });
    }
    let mut writer = markdown::Writer::default();
    for token in scan::Scanner::new(html) {
        if let Some(guard) = guard {
            guard.step()?;
        }
        match token {
            scan::Token::Text(text) => writer.text(&entities::decode(text)),
            scan::Token::Start(tag) => writer.start(&tag),
            scan::Token::End(name) => writer.end(&name),
        }
    }
    let markdown = writer.finish();
    if markdown.len() > MAX_MARKDOWN_BYTES {
        return Err(DocumentError::OutputLimit { limit: MAX_MARKDOWN_BYTES });
    }
    if let Some(guard) = guard {
        guard.write(markdown.len())?;
    }
    Ok(markdown)
}

/// Bytes of a document in which its title and encoding are looked for.
const HEAD_BYTES: usize = 16 * 1024;

/// The text of the first `title` element.
pub(crate) fn title(html: &str) -> Option<String> {
    let head = &html[..html.floor_char_boundary(HEAD_BYTES)];
    let lower = head.to_ascii_lowercase();
    let tag = lower.find("<title")?;
    let start = tag + lower[tag..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    Some(entities::decode(&head[start..end]).into_owned())
}

/// The encoding that a `meta` element names: `charset=…`, with quotes or without, however the rest is written.
pub(crate) fn declared_encoding(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = encoding::beginning(bytes).to_ascii_lowercase();
    let mut rest = head.as_str();
    while let Some(at) = rest.find("<meta") {
        rest = &rest[at + 5..];
        let tag = rest.split('>').next()?;
        if let Some((_, value)) = tag.split_once("charset") {
            let value = value.trim_start().strip_prefix('=').unwrap_or_default().trim_start();
            let name = value.trim_start_matches(['"', '\'']).split(['"', '\'', ';', ' ', '/', '>']).next()?;
            // Text in UTF-16 could not say so in this way.
            return encoding::by_name(name).ok().filter(|encoding| encoding.is_ascii_compatible());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(html: &str, markdown: &str) {
        assert_eq!(to_markdown(html).unwrap(), markdown);
    }

    #[test]
    fn headings_paragraphs_and_emphasis() {
        check(
            "<html><head><title>no</title></head><body><h1>A  <em>b</em></h1><p>One\n two&nbsp;<b>three</b>, <i>four</i>.</p>\
             <h2 class='x'><code>five</code> &amp; six</h2>seven",
            "# A b\n\nOne two **three**, four.\n\n## five & six\n\nseven\n",
        );
    }

    #[test]
    fn code_keeps_its_lines_and_inline_code_its_backticks() {
        check(
            "<p>Use <code class=\"command\">SELECT</code>:<pre class=programlisting>\nSELECT <em>max</em>(a)\n  FROM t\n WHERE a &lt; 2;\n</pre>done",
            "Use `SELECT`:\n\n```\nSELECT max(a)\n  FROM t\n WHERE a < 2;\n```\n\ndone\n",
        );
        check("<pre><code>a ``` b</code></pre>", "````\na ``` b\n````\n");
        check("<code>a`b</code> <code></code>c", "``a`b`` c\n");
    }

    #[test]
    fn lists_nest_and_number() {
        check(
            "<ul><li>one<li><p>two</p><p>more</p><ol start=3><li>x</li><li>y</li></ol></li></ul><p>after",
            "- one\n- two\n\n  more\n\n  3. x\n  4. y\n\nafter\n",
        );
    }

    #[test]
    fn definition_lists_keep_terms_with_their_definitions() {
        check(
            "<dl><dt><code>UNIQUE</code></dt><dd><p>Causes a check.</p><p>More.</p></dd><dt>B</dt><dd>b</dd></dl>",
            "`UNIQUE`\nCauses a check.\n\nMore.\n\nB\nb\n",
        );
    }

    #[test]
    fn tables_become_rows() {
        check(
            "<table><caption>T</caption><thead><tr><th>Name</th><th>Size</th></tr></thead>\
             <tbody><tr><td><code>int</code></td><td><p>4</p><p>bytes | more</p></td></tr><tr><td>x</table>z",
            "T\n\n| Name | Size |\n| --- | --- |\n| `int` | 4 bytes \\| more |\n| x |  |\n\nz\n",
        );
        check("<table><tr><td>(1)<td>first<tr><td>(2)<td>second</table>", "(1) | first\n(2) | second\n");
        check("<table><tr><th>Operator<tr><td><p>a | b<p>either</table>", "Operator\na | b either\n");
    }

    #[test]
    fn quotes_and_line_breaks() {
        check("<blockquote><p>a<br>b</p><p>c</blockquote>d", "> a\n> b\n>\n> c\n\nd\n");
    }

    #[test]
    fn navigation_scripts_and_link_targets_go() {
        check(
            "<div class=\"navheader\"><div>x</div><a href=y>Prev</a></div><nav>menu</nav><script>if (a</b/) '</p>'</script>\
             <style>p{}</style><noscript>n</noscript><svg><text>s</text></svg><template><p>t</template>\
             <p>See <a href=\"http://x/\">the page</a>.</p><div class='toc x'>toc</div><form>Name <select><option>o</select></form><script/>end",
            "See the page.\n\nName\n\nend\n",
        );
    }

    #[test]
    fn entities_are_decoded_once() {
        check(
            "&lt;p&gt; &amp;lt; &eacute;&#233;&#xE9; &#0;&#x110000; &copy &nosuch; &amp;amp; a&ampb &#x80;",
            "<p> &lt; ééé \u{fffd}\u{fffd} © &nosuch; &amp; a&b €\n",
        );
    }

    #[test]
    fn text_that_looks_like_a_heading_or_a_fence_is_escaped() {
        check("<p># not a heading</p><p>``` no fence</p>", "\\# not a heading\n\n\\``` no fence\n");
    }

    #[test]
    fn broken_markup_is_text_or_nothing() {
        check("a < b <1 <", "a < b <1 <\n");
        check("x<!-- never closed", "x\n");
        check("x<!doctype html><?php ?>y</ z></nope>z", "xyz\n");
        check("x<a href='never closed>", "x\n");
        check("", "");
        check("<p> </p><ul><li></ul>&nbsp;", "");
        check("a\0b\u{200b}c\u{ad}d", "abcd\n");
    }

    #[test]
    fn hostile_documents_are_done_in_linear_time_and_bounded_output() {
        let depth = 200_000;
        for tag in
            ["div", "ul><li", "blockquote", "table><tr><td", "b", "pre", "dl><dd", "code", "h1", "nav", "font x=1"]
        {
            let html = format!("<{tag}>").repeat(depth) + "text";
            let markdown = to_markdown(&html).unwrap();
            assert!(markdown.len() <= 2 * html.len(), "{tag}: {} bytes", markdown.len());
        }
        for html in ["<", "</", "<!--", "<a ", "&", "&#", "<a b=\"", "<script>", "<script>x</scrip", "<p>", "`"] {
            to_markdown(&html.repeat(depth)).unwrap();
        }
        let attributes: String = (0..depth).map(|number| format!(" a{number}")).collect();
        check(&format!("<p{attributes}>x"), "x\n");
    }

    #[test]
    fn a_document_over_the_limit_is_refused() {
        let html = " ".repeat(MAX_HTML_BYTES + 1);
        assert!(matches!(to_markdown(&html), Err(DocumentError::InputLimit { .. })));
    }

    #[test]
    fn titles_and_encodings_are_found() {
        assert_eq!(title("<html><TITLE lang=x>A &amp; B</Title>").as_deref(), Some("A & B"));
        assert_eq!(title("<title>open"), None);
        let encoding = |html: &str| declared_encoding(html.as_bytes()).map(Encoding::name);
        assert_eq!(encoding("<meta charset='ISO-8859-2'>"), Some("ISO-8859-2"));
        assert_eq!(
            encoding("<meta name=a><META http-equiv=Content-Type content=\"text/html; charset=koi8-r\">"),
            Some("KOI8-R")
        );
        assert_eq!(encoding("<meta charset=utf-16>"), None);
        assert_eq!(encoding("<p>charset=utf-8"), None);
    }
}
