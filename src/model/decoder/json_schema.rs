//! Answers that are JSON of a schema: which tokens may come next.
//!
//! The crate llguidance turns a schema into a grammar and keeps its state; here are the vocabulary that it needs, the
//! masking of logits, and what a user is told. A token is masked by what has been accepted only, so guesses of the
//! speculation and any sampler meet the same mask as a token at a time, and the answer does not depend on them.
//!
//! Documents are written on one line, with a space behind commas and colons, as models are used to: where white space is
//! free, small models fill their budget with it. A budget that ends before the document does is an error: a document
//! that is closed by force would hold values that the model has not chosen.

use crate::error::{ModelError, Result};
use crate::tokenizer::Tokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use pg_rag_protocol::message::MAX_SCHEMA_BYTES;
use serde_json::{json, Value};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Compiled schemas that are kept: requests over many rows have one schema.
const KEPT: usize = 8;

/// The vocabulary of a model as grammars need it, and the schemas compiled last.
#[derive(Default)]
pub struct Schemas {
    factory: OnceLock<std::result::Result<ParserFactory, String>>,
    compiled: Mutex<Vec<(String, Matcher)>>,
}

impl Schemas {
    /// The beginning of a document of `schema`, for a model whose logits of the first `token_count` tokens count and
    /// whose turns end with `ends`.
    ///
    /// Errors: `InvalidArgument` for what is no schema or uses what is not supported, naming it; `Unsupported` for a
    /// vocabulary whose tokens have no bytes.
    pub fn start(&self, tokenizer: &Tokenizer, token_count: usize, ends: &[u32], schema: &str) -> Result<Constraint> {
        let factory = self.factory.get_or_init(|| factory(tokenizer, token_count, ends));
        let factory = factory.as_ref().map_err(|reason| ModelError::Unsupported(reason.clone()))?;
        // Nothing in here calls out while the list is half-changed.
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = compiled.iter().position(|(known, _)| known == schema);
        let entry = match known {
            Some(index) => compiled.remove(index),
            None => (schema.to_owned(), compile(factory, schema)?),
        };
        let matcher = entry.1.deep_clone();
        compiled.insert(0, entry);
        compiled.truncate(KEPT);
        Ok(Constraint { matcher, ends: ends.to_vec() })
    }
}

fn compile(factory: &ParserFactory, schema: &str) -> Result<Matcher> {
    let invalid = |reason: String| ModelError::InvalidArgument(format!("json_schema is not supported: {reason}"));
    if schema.len() > MAX_SCHEMA_BYTES {
        return Err(invalid(format!("it has {} bytes", schema.len())));
    }
    let parsed: Value = serde_json::from_str(schema)
        .map_err(|error| ModelError::InvalidArgument(format!("json_schema is not JSON: {error}")))?;
    let Value::Object(mut parsed) = parsed else {
        return Err(ModelError::InvalidArgument("json_schema is not a JSON object".into()));
    };
    let style = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    parsed.insert("x-guidance".to_owned(), style);
    let grammar = TopLevelGrammar::from_json_schema(Value::Object(parsed));
    let parser = factory.create_parser(grammar).map_err(|error| invalid(one_line(&format!("{error:#}"))))?;
    let matcher = Matcher::new(Ok(parser));
    match matcher.get_error() {
        Some(error) => Err(invalid(one_line(&error))),
        None => Ok(matcher),
    }
}

fn factory(tokenizer: &Tokenizer, token_count: usize, ends: &[u32]) -> std::result::Result<ParserFactory, String> {
    let Some(&end) = ends.first() else { return Err("json_schema with a model that ends no turn".into()) };
    let mut words = tokenizer.token_bytes().ok_or("json_schema with a vocabulary of this kind")?;
    words.resize(token_count, Vec::new());
    let trie = TokTrie::from(&TokRxInfo::new(token_count as u32, end), &words);
    let environment = std::sync::Arc::new(ApproximateTokEnv::new(trie));
    let environment: llguidance::toktrie::TokEnv = environment;
    let slices = llguidance::earley::SlicedBiasComputer::json_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        .map_err(|error| format!("json_schema with this vocabulary: {error}"))?;
    factory.quiet();
    factory.limits_mut().verbose_errors = false;
    Ok(factory)
}

/// The state of one document.
pub struct Constraint {
    matcher: Matcher,
    ends: Vec<u32>,
}

impl Constraint {
    /// Leaves only the logits of tokens that may come next; tokens that end the turn where the document may end.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let mask = self.matcher.compute_mask_or_eos().map_err(lost)?;
        let may_end = self.ends.first().is_some_and(|&end| mask.is_allowed(end));
        for (id, logit) in (0..).zip(logits.iter_mut()) {
            let allowed = mask.is_allowed(id) || may_end && self.ends.contains(&id);
            if !allowed {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Takes the chosen token, which the mask allowed and which does not end the turn.
    pub fn accept(&mut self, id: u32) -> Result<()> {
        self.matcher.consume_token(id).map_err(lost)
    }

    /// Whether the document is complete and nothing can follow.
    pub fn is_over(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// Whether the document is complete.
    pub fn is_complete(&mut self) -> Result<bool> {
        if self.matcher.is_stopped() {
            return Ok(true);
        }
        self.matcher.is_accepting().map_err(lost)
    }
}

/// A grammar that outgrows its limits while it is followed.
fn lost(error: impl std::fmt::Display) -> ModelError {
    ModelError::InvalidArgument(format!("json_schema is not supported: {}", one_line(&error.to_string())))
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}
