//! Chat templates: from messages to the token ids that make a model answer.
//!
//! A model brings its template as Jinja source. Contents of messages are data and must not be able to end a turn, so
//! they never meet the template: it is rendered with a placeholder for each content, the result is cut into control
//! tokens and text, and only then the contents are put into the text, which is tokenised without recognising control
//! tokens. Text of the template and a content next to it are tokenised together, as the model was trained.
//!
//! A placeholder has white space around it; if a template trims it, the content is trimmed on the same side. Templates
//! that look into contents in other ways see the placeholder.

use super::Tokenizer;
use crate::error::{ModelError, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{context, Environment, Error, ErrorKind, Value};
use pg_rag_protocol::message::{ChatMessage, Role};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Write;

/// Steps that a template may take: it comes from a file.
const FUEL: u64 = 5_000_000;
const RECURSION: usize = 64;
const MOST_INDENT: usize = 16;

/// The white space around a placeholder: one that templates do not contain, but trim like any other.
const PAD: char = '\u{2005}';
/// Private-use characters that enclose a placeholder's number; no case mapping or escaping changes them.
const OPEN: char = '\u{e0f0}';
const CLOSE: char = '\u{e0f1}';

/// ChatML, for models that know its tokens but bring no template.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const NAME: &str = "chat template";

/// A compiled template and the tokens it works with.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
    /// Token to start with, if the template does not write it.
    prefix: Option<u32>,
    /// Spelling and id of the control tokens, longest first.
    control: Vec<(String, u32)>,
}

/// Part of a prompt before tokenisation.
#[derive(Debug, PartialEq)]
enum Piece {
    Control(u32),
    Text(String),
}

impl ChatTemplate {
    /// Compiles `source`, or the ChatML template if there is none and the vocabulary has its tokens.
    ///
    /// `bos` and `eos` are what the template's variables of these names stand for; with `add_bos`, prompts start with
    /// `bos`. Errors: `Unsupported` if there is no template or it does not compile.
    pub fn new(
        source: Option<&str>,
        tokenizer: &Tokenizer,
        bos: Option<u32>,
        eos: Option<u32>,
        add_bos: bool,
    ) -> Result<Self> {
        let source = match source {
            Some(source) => source.to_owned(),
            None if tokenizer.token_id("<|im_start|>").is_some() && tokenizer.token_id("<|im_end|>").is_some() => {
                CHATML.to_owned()
            }
            None => return Err(ModelError::Unsupported("model has no chat template".into())),
        };
        let inner = tokenizer.inner();
        let special = inner.get_added_tokens_decoder().into_iter().filter(|(_, token)| token.special);
        let mut control: Vec<(String, u32)> = special.map(|(id, token)| (token.content, id)).collect();
        control.retain(|(token, _)| !token.is_empty());
        control.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let spelling = |id: Option<u32>| id.and_then(|id| inner.id_to_token(id)).unwrap_or_default();
        Ok(Self {
            environment: environment(source).map_err(unsupported)?,
            bos_token: spelling(bos),
            eos_token: spelling(eos),
            prefix: bos.filter(|_| add_bos),
            control,
        })
    }

    /// Token ids that the model continues with the assistant's next turn.
    ///
    /// Templates of models that know no system role reject its message or leave it out; the first turn of the user then
    /// begins with it.
    ///
    /// Errors: `InvalidArgument` without messages; `InvalidInput` with the template's own message if it rejects them,
    /// for example two turns of the same role; `Unsupported` if the template fails or leaves out a message.
    pub fn prompt_tokens(&self, tokenizer: &Tokenizer, messages: &[ChatMessage]) -> Result<Vec<u32>> {
        if messages.is_empty() {
            return Err(ModelError::InvalidArgument("a conversation needs at least one message".into()));
        }
        let asked = self.tokens_of(tokenizer, messages);
        match (&asked, folded(messages)) {
            (Err(ModelError::InvalidInput(_) | ModelError::Unsupported(_)), Some(folded)) => {
                self.tokens_of(tokenizer, &folded).or(asked)
            }
            _ => asked,
        }
    }

    fn tokens_of(&self, tokenizer: &Tokenizer, messages: &[ChatMessage]) -> Result<Vec<u32>> {
        let rendered = self.render(messages)?;
        let mut ids = Vec::new();
        for (index, piece) in self.pieces(&rendered, messages)?.into_iter().enumerate() {
            match piece {
                Piece::Control(id) => ids.push(id),
                Piece::Text(text) if index == 0 => ids.extend(tokenizer.encode_ids(&text, false)?),
                Piece::Text(text) => ids.extend(tokenizer.encode_ids_inside(&text)?),
            }
        }
        if let Some(bos) = self.prefix.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The template's text with placeholders for the contents.
    fn render(&self, messages: &[ChatMessage]) -> Result<String> {
        let turn = |(index, message): (usize, &ChatMessage)| {
            context! { role => message.role.as_str(), content => format!("{PAD}{OPEN}{index}{CLOSE}{PAD}") }
        };
        let turns: Vec<Value> = messages.iter().enumerate().map(turn).collect();
        let context = context! {
            messages => turns,
            // Templates ask whether these are none, which a variable that is not defined is not.
            tools => (),
            documents => (),
            add_generation_prompt => true,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
        };
        self.environment.get_template(NAME).and_then(|template| template.render(context)).map_err(|error| match raised(
            &error,
        ) {
            Some(message) => ModelError::InvalidInput(format!("chat template rejects the messages: {message}")),
            None => unsupported(error),
        })
    }

    /// Cuts the rendered template at control tokens and replaces placeholders by contents.
    fn pieces(&self, rendered: &str, messages: &[ChatMessage]) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut used = vec![false; messages.len()];
        let mut rest = rendered;
        while let Some(first) = rest.chars().next() {
            if let Some((token, id)) = self.control.iter().find(|(token, _)| rest.starts_with(token.as_str())) {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Control(*id));
                rest = &rest[token.len()..];
            } else if let Some((index, len)) = placeholder(rest).filter(|(index, _)| *index < messages.len()) {
                used[index] = true;
                let mut content = messages[index].content.as_str();
                if !rest.starts_with(PAD) {
                    content = content.trim_start();
                }
                if !rest[..len].ends_with(PAD) {
                    content = content.trim_end();
                }
                text.push_str(content);
                rest = &rest[len..];
            } else {
                text.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        match used.iter().position(|used| !used) {
            Some(index) => {
                let role = messages[index].role.as_str();
                Err(ModelError::Unsupported(format!("chat template of the model leaves out a message of the {role}")))
            }
            None => Ok(pieces),
        }
    }
}

/// The messages with the system's in the beginning of the first turn of the user, if both are there.
fn folded(messages: &[ChatMessage]) -> Option<Vec<ChatMessage>> {
    let systems = messages.iter().take_while(|message| message.role == Role::System).count();
    let (system, rest) = messages.split_at(systems);
    let (first, later) = rest.split_first().filter(|(first, _)| systems > 0 && first.role == Role::User)?;
    let contents = system.iter().chain([first]).map(|message| message.content.as_str());
    let content = contents.collect::<Vec<_>>().join("\n\n");
    Some([&[ChatMessage { role: Role::User, content }], later].concat())
}

/// Index and length in bytes of a placeholder at the start of `text`, with what is left of its padding.
fn placeholder(text: &str) -> Option<(usize, usize)> {
    let body = text.strip_prefix(PAD).unwrap_or(text).strip_prefix(OPEN)?;
    let (number, rest) = body.split_once(CLOSE)?;
    let rest = rest.strip_prefix(PAD).unwrap_or(rest);
    Some((number.parse().ok()?, text.len() - rest.len()))
}

/// Jinja as model templates expect it: Python's methods, trimmed blocks, and limits.
fn environment(source: String) -> std::result::Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_recursion_limit(RECURSION);
    environment.set_fuel(Some(FUEL));
    // A mark that no template can know tells its own errors from those of the engine.
    let mark = raise_mark();
    environment.add_function("raise_exception", move |message: String| -> std::result::Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{mark}{message}")))
    });
    environment.add_function("strftime_now", |format: &str| -> String {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        format_time(format, since_epoch.map_or(0, |duration| duration.as_secs()))
    });
    environment.add_filter("tojson", json);
    environment.add_template_owned(NAME, without_training_blocks(&source))?;
    Ok(environment)
}

/// JSON as Python writes it: not made safe for HTML, and with spaces where it is on one line.
fn json(value: Value, options: Kwargs) -> std::result::Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?.filter(|indent| *indent <= MOST_INDENT);
    // Whatever else Python would be told: order of keys, separators, characters.
    ["ensure_ascii", "separators", "sort_keys"].iter().for_each(|name| drop(options.get::<Option<Value>>(name)));
    options.assert_all_used()?;
    let written = match indent {
        Some(indent) => {
            let indent = " ".repeat(indent);
            let mut out = Vec::new();
            let format = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, format)).map(|()| out)
        }
        None => {
            let mut out = Vec::new();
            value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)).map(|()| out)
        }
    };
    let written = written
        .map_err(|error| error.to_string())
        .and_then(|out| String::from_utf8(out).map_err(|error| error.to_string()));
    written.map_err(|reason| Error::new(ErrorKind::BadSerialization, reason))
}

/// One line, with a space behind every comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Templates mark what a model is trained to say with a block that Jinja does not know. Its tags become comments, which
/// trim white space like tags.
fn without_training_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag)) = rest.split_once("{%") {
        out.push_str(before);
        let Some((inner, after)) = tag.split_once("%}") else {
            out.push_str("{%");
            rest = tag;
            continue;
        };
        let name = inner.trim_matches(['-', '+']).trim();
        if name == "generation" || name == "endgeneration" {
            let mark = |there: bool| if there { "-" } else { "" };
            out.push_str(&format!("{{#{} {}#}}", mark(inner.starts_with('-')), mark(inner.ends_with('-'))));
        } else {
            out.push_str(&format!("{{%{inner}%}}"));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Starts the message of an error that a template raises itself. One per process.
fn raise_mark() -> &'static str {
    static MARK: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    MARK.get_or_init(|| format!("raised {:016x}: ", RandomState::new().hash_one("raised")))
}

/// The message of an error that the template raised itself.
fn raised(error: &Error) -> Option<&str> {
    error.detail().and_then(|detail| detail.strip_prefix(raise_mark()))
}

fn unsupported(error: Error) -> ModelError {
    ModelError::Unsupported(format!("chat template fails: {error}"))
}

/// `strftime` in UTC for the fields that templates use; others are left as they are.
fn format_time(format: &str, seconds: u64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let (year, month, day) = civil_date(seconds / 86_400);
    let name = MONTHS[(month - 1) as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        let field = if char == '%' { chars.next() } else { None };
        match field {
            None => out.push(char),
            Some('Y') => out.push_str(&year.to_string()),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('B') => out.push_str(name),
            Some('b') => out.push_str(&name[..3]),
            Some('H') => out.push_str(&format!("{:02}", seconds / 3600 % 24)),
            Some('M') => out.push_str(&format!("{:02}", seconds / 60 % 60)),
            Some('S') => out.push_str(&format!("{:02}", seconds % 60)),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
        }
    }
    out
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn civil_date(mut day: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, day + 1)
}

#[cfg(test)]
mod tests;
