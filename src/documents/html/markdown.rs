//! Writes Markdown from a stream of tags and text.
//!
//! State instead of a tree: open containers (lists, items, quotes) give each line its prefix; a pending gap separates
//! blocks, so that empty elements leave no trace; spans (code, bold) remember where their text began and get their
//! marks when they end. Rows of a table are collected until it ends. Emphasis and link targets are dropped: they are
//! noise to retrieval.
//!
//! Invariants: time is linear in the input (containers are only searched when one of the kind is known to be open);
//! only the outermost [`INDENTED_CONTAINERS`] indent.

use super::scan::Tag;
use super::table::Table;

/// Containers that indent their lines. Deeper ones stay at this level, which bounds what nesting can add to a line.
const INDENTED_CONTAINERS: usize = 4;

/// Elements that are left out with all they contain.
const SKIPPED: [&str; 13] = [
    "head", "nav", "template", "noscript", "svg", "select", "datalist", "button", "object", "canvas", "audio", "video",
    "map",
];

/// Classes of elements that DocBook's stylesheets use for navigation.
const SKIPPED_CLASSES: [&str; 3] = ["navheader", "navfooter", "toc"];

/// Elements that never have content.
const VOID: [&str; 13] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Line,
    Blank,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bulleted,
    Numbered,
    Definitions,
    Item,
    Quote,
}

enum Container {
    /// `next` numbers the items of a numbered list; `follows` is what the list had last.
    List {
        kind: Kind,
        next: u32,
        follows: Follows,
    },
    /// `marker` goes before the first line; later lines are indented by its width.
    Item {
        marker: String,
        begun: bool,
    },
    Quote,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    Nothing,
    Term,
    Item,
}

impl Container {
    fn kind(&self) -> Kind {
        match self {
            Container::List { kind, .. } => *kind,
            Container::Item { .. } => Kind::Item,
            Container::Quote => Kind::Quote,
        }
    }
}

/// A run of text that gets a mark at both ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Span {
    Closed,
    /// No text yet.
    Opening,
    /// Its text begins at this byte of the current target.
    Open(usize),
}

/// Takes tags and text, in order, and gives the Markdown at the end.
pub struct Writer {
    out: String,
    containers: Vec<Container>,
    /// Open containers by [`Kind`].
    open: [usize; 5],
    gap: Gap,
    space: bool,
    /// Goes before the next text of a heading.
    heading: Option<&'static str>,
    in_heading: bool,
    bold: Span,
    code: Span,
    /// Preformatted text and how many elements it is nested in.
    pre: Option<(String, usize)>,
    table: Option<Table>,
    /// Element that is being left out, and how many of its name are open.
    skipping: Option<(String, usize)>,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            out: String::new(),
            containers: Vec::new(),
            open: [0; 5],
            gap: Gap::None,
            space: false,
            heading: None,
            in_heading: false,
            bold: Span::Closed,
            code: Span::Closed,
            pre: None,
            table: None,
            skipping: None,
        }
    }
}

impl Writer {
    /// Text between tags, entities decoded.
    pub fn text(&mut self, text: &str) {
        if self.skipping.is_some() {
            return;
        }
        if let Some((pre, _)) = &mut self.pre {
            pre.extend(text.chars().filter(|c| !is_invisible(*c) || matches!(c, '\n' | '\t')).map(|c| match c {
                '\u{a0}' => ' ',
                c => c,
            }));
            return;
        }
        for (at, character) in text.char_indices() {
            if character.is_whitespace() {
                self.space = true;
            } else if !is_invisible(character) {
                self.begin_text(&text[at..]);
                self.target().push(character);
            }
        }
    }

    pub fn start(&mut self, tag: &Tag) {
        let name = tag.name.as_ref();
        if let Some((skipped, depth)) = &mut self.skipping {
            if name == skipped && !tag.self_closing {
                *depth += 1;
            }
            // The end tag of the head may be left out.
            if !(name == "body" && skipped == "head") {
                return;
            }
            self.skipping = None;
        }
        let is_skipped =
            SKIPPED.contains(&name) || tag.class.split_ascii_whitespace().any(|c| SKIPPED_CLASSES.contains(&c));
        if is_skipped && !VOID.contains(&name) {
            self.block(Gap::Blank);
            if !tag.self_closing {
                self.skipping = Some((name.to_owned(), 1));
            }
            return;
        }
        if let Some((pre, depth)) = &mut self.pre {
            match name {
                "br" => pre.push('\n'),
                "pre" => *depth += 1,
                _ => {}
            }
            return;
        }
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.block(Gap::Blank);
                self.in_heading = self.table.as_ref().is_none_or(|table| !table.in_cell());
                self.heading = match name {
                    _ if !self.in_heading => None,
                    "h1" => Some("# "),
                    "h2" => Some("## "),
                    "h3" => Some("### "),
                    "h4" => Some("#### "),
                    "h5" => Some("##### "),
                    _ => Some("###### "),
                };
            }
            "b" | "strong" if self.bold == Span::Closed && self.code == Span::Closed && !self.in_heading => {
                self.bold = Span::Opening;
            }
            "code" | "tt" | "kbd" | "samp" if self.code == Span::Closed && !self.in_heading => {
                self.code = Span::Opening;
            }
            "br" if self.in_heading || self.code != Span::Closed || self.in_cell() => self.space = true,
            "br" => {
                let gap = if self.gap == Gap::None { Gap::Line } else { Gap::Blank };
                self.block(gap);
            }
            "img" => self.text(&super::entities::decode(tag.alt)),
            "pre" => {
                self.block(Gap::Blank);
                if !self.in_cell() {
                    self.pre = Some((String::new(), 1));
                }
            }
            "table" => {
                self.block(Gap::Blank);
                match &mut self.table {
                    Some(table) => table.nested += 1,
                    None => self.table = Some(Table::default()),
                }
            }
            "tr" | "td" | "th" => self.table_part(|table| match name {
                "tr" => table.begin_row(),
                name => table.begin_cell(name == "th"),
            }),
            "div" | "section" | "article" if self.in_heading => self.space = true,
            _ if self.in_cell() => self.space |= is_block(name),
            "ul" | "menu" => self.list(Kind::Bulleted, 0),
            "ol" => self.list(Kind::Numbered, tag.start.parse::<u32>().unwrap_or(1).min(9999)),
            "dl" => self.list(Kind::Definitions, 0),
            "li" => self.item(false),
            "dt" => self.term(),
            "dd" => self.item(true),
            "blockquote" => {
                self.block(Gap::Blank);
                self.push(Container::Quote);
            }
            _ if is_block(name) => self.block(Gap::Blank),
            _ => {}
        }
    }

    pub fn end(&mut self, name: &str) {
        if let Some((skipped, depth)) = &mut self.skipping {
            if name == skipped {
                *depth -= 1;
                if *depth == 0 {
                    self.skipping = None;
                }
            }
            return;
        }
        if let Some((_, depth)) = &mut self.pre {
            if name == "pre" {
                *depth -= 1;
                if *depth == 0 {
                    self.finish_pre();
                }
            }
            return;
        }
        match name {
            "b" | "strong" => self.close_spans(),
            "code" | "tt" | "kbd" | "samp" => self.close_code(),
            "table" => match &mut self.table {
                Some(table) if table.nested > 0 => table.nested -= 1,
                Some(_) => self.finish_table(),
                None => {}
            },
            "td" | "th" | "tr" => self.table_part(Table::end_cell),
            _ if self.in_cell() => self.space |= is_block(name),
            "ul" | "menu" => self.pop(Kind::Bulleted, Gap::Blank),
            "ol" => self.pop(Kind::Numbered, Gap::Blank),
            "dl" => self.pop(Kind::Definitions, Gap::Blank),
            "blockquote" => self.pop(Kind::Quote, Gap::Blank),
            "div" | "section" | "article" if self.in_heading => self.space = true,
            _ if is_block(name) => self.block(Gap::Blank),
            _ => {}
        }
    }

    /// Closes what is open and gives the Markdown.
    pub fn finish(mut self) -> String {
        self.finish_pre();
        self.finish_table();
        self.block(Gap::Blank);
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out
    }

    fn in_cell(&self) -> bool {
        self.table.as_ref().is_some_and(Table::in_cell)
    }

    /// Where text goes now.
    fn target(&mut self) -> &mut String {
        match &mut self.table {
            Some(table) if table.in_cell() => table.cell(),
            _ => &mut self.out,
        }
    }

    /// Ends the current block; at least `gap` comes before the next text.
    fn block(&mut self, gap: Gap) {
        self.space = true;
        self.close_spans();
        if self.in_cell() {
            return;
        }
        self.in_heading = false;
        self.heading = None;
        // What comes first in an item belongs on the line of its marker.
        if !matches!(self.containers.last(), Some(Container::Item { begun: false, .. })) {
            self.gap = self.gap.max(gap);
        }
    }

    /// Called before the first character of `rest` is written: does all that has been put off until there is text.
    fn begin_text(&mut self, rest: &str) {
        let space = std::mem::take(&mut self.space);
        if self.in_cell() {
            let cell = self.target();
            if space && !cell.is_empty() {
                cell.push(' ');
            }
        } else if self.gap != Gap::None || self.out.is_empty() {
            self.begin_line();
            match self.heading.take() {
                Some(marks) => self.out.push_str(marks),
                // Text that Markdown would take for a heading or a fence.
                None if self.code == Span::Closed && (rest.starts_with('#') || rest.starts_with("```")) => {
                    self.out.push('\\');
                }
                None => {}
            }
        } else if space {
            self.out.push(' ');
        }
        let position = self.target().len();
        for span in [&mut self.bold, &mut self.code] {
            if *span == Span::Opening {
                *span = Span::Open(position);
            }
        }
    }

    /// Writes the pending gap and the prefix of a new line.
    fn begin_line(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
            if self.gap == Gap::Blank {
                let line_start = self.out.len();
                for container in self.containers.iter().take(INDENTED_CONTAINERS) {
                    match container {
                        Container::Item { begun: true, marker } => push_spaces(&mut self.out, marker.len()),
                        Container::Quote => self.out.push_str("> "),
                        _ => {}
                    }
                }
                let kept = self.out[line_start..].trim_end().len();
                self.out.truncate(line_start + kept);
                self.out.push('\n');
            }
        }
        self.gap = Gap::None;
        for container in self.containers.iter_mut().take(INDENTED_CONTAINERS) {
            match container {
                Container::Item { begun: true, marker } => push_spaces(&mut self.out, marker.len()),
                Container::Item { begun, marker } => {
                    self.out.push_str(marker);
                    *begun = true;
                }
                Container::Quote => self.out.push_str("> "),
                Container::List { .. } => {}
            }
        }
        // A deep item is not indented, but its next line is not its first.
        if let Some(Container::Item { begun, .. }) = self.containers.last_mut() {
            *begun = true;
        }
    }

    fn close_code(&mut self) {
        if let Span::Open(start) = std::mem::replace(&mut self.code, Span::Closed) {
            let target = self.target();
            let longest = longest_run(&target[start..], '`');
            let mark = "`".repeat(if longest == 0 { 1 } else { longest + 1 });
            target.insert_str(start, &mark);
            target.push_str(&mark);
        }
    }

    fn close_spans(&mut self) {
        self.close_code();
        if let Span::Open(start) = std::mem::replace(&mut self.bold, Span::Closed) {
            let target = self.target();
            target.insert_str(start, "**");
            target.push_str("**");
        }
    }

    fn push(&mut self, container: Container) {
        self.open[container.kind() as usize] += 1;
        self.containers.push(container);
    }

    /// Closes the innermost container of this kind, and what is open inside it.
    fn pop(&mut self, kind: Kind, gap: Gap) {
        self.block(gap);
        if self.open[kind as usize] == 0 {
            return;
        }
        while let Some(container) = self.containers.pop() {
            self.open[container.kind() as usize] -= 1;
            if container.kind() == kind {
                break;
            }
        }
        self.gap = self.gap.max(gap);
    }

    fn list(&mut self, kind: Kind, next: u32) {
        let is_nested = self.open[Kind::Item as usize] > 0;
        self.block(if is_nested { Gap::Line } else { Gap::Blank });
        self.push(Container::List { kind, next, follows: Follows::Nothing });
    }

    /// Closes the item before, and tells what the innermost list had last; a list is opened where there is none.
    fn next_in_list(&mut self, now: Follows, default: Kind) -> (Kind, u32, Follows) {
        let lists: usize =
            [Kind::Bulleted, Kind::Numbered, Kind::Definitions].map(|kind| self.open[kind as usize]).iter().sum();
        if lists == 0 {
            self.list(default, 1);
        }
        loop {
            match self.containers.last_mut() {
                Some(Container::List { kind, next, follows }) => {
                    let before = (*kind, *next, std::mem::replace(follows, now));
                    *next += u32::from(now == Follows::Item);
                    return before;
                }
                Some(container) => {
                    self.open[container.kind() as usize] -= 1;
                    self.containers.pop();
                }
                // Cannot happen: a list is open. As a list that begins it would be right, too.
                None => return (default, 1, Follows::Nothing),
            }
        }
    }

    fn item(&mut self, is_definition: bool) {
        self.block(Gap::Line);
        let default = if is_definition { Kind::Definitions } else { Kind::Bulleted };
        let (kind, number, follows) = self.next_in_list(Follows::Item, default);
        let tight = if is_definition { follows == Follows::Term } else { follows != Follows::Nothing };
        // Items follow each other without blank lines, even when they consist of paragraphs.
        if tight {
            self.gap = Gap::Line;
        }
        let marker = match kind {
            Kind::Numbered => format!("{number}. "),
            _ if is_definition => String::new(),
            _ => "- ".to_owned(),
        };
        self.push(Container::Item { marker, begun: false });
    }

    fn term(&mut self) {
        self.block(Gap::Line);
        let (_, _, follows) = self.next_in_list(Follows::Term, Kind::Definitions);
        self.block(if follows == Follows::Term { Gap::Line } else { Gap::Blank });
    }

    /// A tag that begins or ends a row or a cell. In a table inside a cell it merely separates words.
    fn table_part(&mut self, change: impl FnOnce(&mut Table)) {
        self.block(Gap::Blank);
        if let Some(table) = self.table.as_mut().filter(|table| table.nested == 0) {
            table.end_cell();
            change(table);
            self.space = false;
        }
    }

    fn finish_table(&mut self) {
        self.close_spans();
        let Some(table) = self.table.take() else { return };
        self.gap = self.gap.max(Gap::Blank);
        for line in table.into_lines() {
            self.begin_line();
            self.out.push_str(&line);
            self.gap = Gap::Line;
        }
        self.block(Gap::Blank);
    }

    fn finish_pre(&mut self) {
        let Some((text, _)) = self.pre.take() else { return };
        let text = text.strip_prefix('\n').unwrap_or(&text).trim_end();
        if text.is_empty() {
            return;
        }
        let fence = "`".repeat(3.max(longest_run(text, '`') + 1));
        for line in std::iter::once(fence.as_str()).chain(text.lines()).chain(std::iter::once(fence.as_str())) {
            self.begin_line();
            self.out.push_str(line.trim_end());
            self.gap = Gap::Line;
        }
        self.block(Gap::Blank);
    }
}

fn push_spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

fn longest_run(text: &str, character: char) -> usize {
    let (mut longest, mut current) = (0, 0);
    for c in text.chars() {
        current = if c == character { current + 1 } else { 0 };
        longest = longest.max(current);
    }
    longest
}

/// Control characters, and characters that only guide line breaking.
fn is_invisible(character: char) -> bool {
    character.is_control() || matches!(character, '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}')
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "body"
            | "caption"
            | "center"
            | "details"
            | "dialog"
            | "div"
            | "dd"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "header"
            | "hr"
            | "html"
            | "legend"
            | "li"
            | "main"
            | "p"
            | "section"
            | "summary"
            | "tbody"
            | "tfoot"
            | "thead"
    )
}
