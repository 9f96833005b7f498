//! Cutting documents into chunks: HTML becomes Markdown, a text with pages keeps them, and the template makes of a chunk what
//! is embedded.

use super::summaries::{self, Page};
use super::{sha256, Document, PendingChunk};
use crate::error::{invalid_parameter, Result};
use crate::functions::chunk::{chunk_all, chunk_all_paged, ChunkRow, Chunking};
use crate::functions::tokens::html_to_markdown_all;
use crate::models::catalog::Model;
use crate::rag::catalog::Index;
use pg_rag_engine::text::{PageMark, PagedText};
use serde::{Deserialize, Serialize};

/// Where a page starts, as the column has it that `pages_column` names: an array of such objects, in order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPage {
    /// From 1.
    pub page: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Characters of the text before the page.
    pub start: usize,
}

impl From<PageMark> for StoredPage {
    fn from(mark: PageMark) -> Self {
        Self { page: mark.number, name: mark.name, start: mark.char_start }
    }
}

/// What is to be cut, in the form in which it is.
enum Text {
    Plain(String),
    Markdown(String),
    /// Extracted of a document: Markdown, with pages or without.
    Paged(PagedText),
}

impl Text {
    /// The pages that have a summary.
    fn pages(&self, index: &Index) -> Vec<Page> {
        let Some(options) = &index.summaries else { return Vec::new() };
        match self {
            Text::Paged(text) => summaries::pages_of(text, options),
            Text::Plain(text) | Text::Markdown(text) => PagedText::from_marks(text.clone(), &[])
                .map_or_else(Vec::new, |text| summaries::pages_of(&text, options)),
        }
    }
}

/// The pages of the documents that have a summary.
pub fn pages(index: &Index, documents: &[Document]) -> Result<Vec<Vec<Page>>> {
    Ok(readable(documents)?.iter().map(|text| text.pages(index)).collect())
}

/// Cuts the documents. Each has its chunks and its pages that have a summary.
pub fn cut(index: &Index, model: &Model, documents: &[Document]) -> Result<Vec<(Vec<PendingChunk>, Vec<Page>)>> {
    let texts = readable(documents)?;
    let mut rows: Vec<Vec<ChunkRow>> = Vec::with_capacity(texts.len());
    rows.resize_with(texts.len(), Vec::new);
    for strategy in ["recursive", "sentence", "markdown"] {
        let (mut plain, mut paged) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for (at, text) in texts.iter().enumerate() {
            let chosen = match (index.strategy.as_str(), text) {
                ("auto", Text::Plain(_)) => "recursive",
                ("auto", _) => "markdown",
                (chosen, _) => chosen,
            };
            if chosen != strategy {
                continue;
            }
            match text {
                Text::Plain(text) | Text::Markdown(text) => {
                    plain.0.push(at);
                    plain.1.push(text.clone());
                }
                Text::Paged(text) => {
                    paged.0.push(at);
                    paged.1.push(text.clone());
                }
            }
        }
        let chunking = Chunking::new(strategy, index.size, index.overlap, &index.unit)?;
        if !plain.0.is_empty() {
            for (at, chunks) in plain.0.into_iter().zip(chunk_all(model, &plain.1, &chunking)?) {
                rows[at] = chunks;
            }
        }
        if !paged.0.is_empty() {
            for (at, chunks) in paged.0.into_iter().zip(chunk_all_paged(model, &paged.1, &chunking)?) {
                rows[at] = chunks;
            }
        }
    }
    let pending = |((document, text), rows): ((&Document, &Text), Vec<ChunkRow>)| {
        let chunks = rows.into_iter().zip(1..).map(|(row, seq)| {
            let input = fill_template(&index.template, &row, &document.fields);
            PendingChunk { seq, hash: sha256(&input), input, row, vector: None, summary_hash: None }
        });
        (chunks.collect(), text.pages(index))
    };
    Ok(documents.iter().zip(&texts).zip(rows).map(pending).collect())
}

/// The documents' texts, those of HTML as Markdown.
fn readable(documents: &[Document]) -> Result<Vec<Text>> {
    let mut html = Vec::new();
    let mut texts = Vec::with_capacity(documents.len());
    for (at, document) in documents.iter().enumerate() {
        texts.push(match &document.pages {
            Some(pages) => Text::Paged(paged(&document.text, pages)?),
            None => {
                if looks_like_html(&document.text) {
                    html.push(at);
                }
                Text::Plain(document.text.clone())
            }
        });
    }
    if !html.is_empty() {
        let converted = html_to_markdown_all(html.iter().map(|&at| documents[at].text.clone()).collect())?;
        for (at, markdown) in html.into_iter().zip(converted) {
            texts[at] = Text::Markdown(markdown);
        }
    }
    Ok(texts)
}

fn paged(text: &str, pages: &str) -> Result<PagedText> {
    let wrong = |detail: String| {
        invalid_parameter("pages of a text must be an array of objects with \"page\" and \"start\", in order")
            .set_detail(detail)
    };
    let stored: Vec<StoredPage> = serde_json::from_str(pages).map_err(|failure| wrong(format!("{failure}.")))?;
    let marks: Vec<PageMark> = stored
        .into_iter()
        .map(|page| PageMark { number: page.page, name: page.name, char_start: page.start })
        .collect();
    PagedText::from_marks(text.to_owned(), &marks).ok_or_else(|| {
        wrong("The first page starts at 0, each other after the one before it, and all within the text.".into())
    })
}

/// Whether a text is an HTML document, told by how it begins.
fn looks_like_html(text: &str) -> bool {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    // An XML declaration or comments may come first.
    loop {
        let end = match rest {
            _ if rest.starts_with("<?xml") => "?>",
            _ if rest.starts_with("<!--") => "-->",
            _ => break,
        };
        match rest.split_once(end) {
            Some((_, after)) => rest = after.trim_start(),
            None => return false,
        }
    }
    let start = |prefix: &str| rest.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    start("<!doctype html") || start("<html")
}

/// Replaces `{chunk}`, `{headings}` and `{column}`. One pass: braces in the values stay as they are.
pub fn fill_template(template: &str, chunk: &ChunkRow, fields: &[(String, String)]) -> String {
    let mut filled = String::with_capacity(template.len() + chunk.content.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        match name {
            "chunk" => filled.push_str(&chunk.content),
            "headings" => filled.push_str(&chunk.headings.join(" > ")),
            name => filled.push_str(fields.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)),
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}
