//! What the registration of a remote model says: the model's name at its server, and what the other side does not tell.

use super::error::RemoteError;
use pg_rag_protocol::message::{FailureKind, ModelKind};
use serde_json::{Map, Value};

/// Most dimensions of a vector, as PostgreSQL's type has them.
const MAX_DIMENSIONS: u64 = 16_000;

/// Longest name of a model and longest instruction before a text.
const MAX_TEXT_BYTES: usize = 4096;

/// Most texts of one HTTP request.
const MAX_BATCH: u64 = 2048;

/// Texts of one HTTP request; what servers take that say nothing else.
const DEFAULT_BATCH: usize = 32;

/// Longest input, where the registration does not tell.
const DEFAULT_EMBED_TOKENS: u32 = 512;
const DEFAULT_CONTEXT_TOKENS: u32 = 8192;

/// Fields of a request that are not for options to change: they decide what is asked and how the answer is read.
const FIXED_FIELDS: [&str; 9] =
    ["model", "messages", "input", "stream", "n", "query", "documents", "texts", "encoding_format"];

/// The options of a registration.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteOptions {
    /// Name of the model at its server.
    pub model: String,
    /// Length of its vectors, if known.
    pub dimensions: Option<u32>,
    /// Whether to ask for vectors of this length.
    pub send_dimensions: bool,
    /// Whether to ask for vectors in base64, which is a third of the size.
    pub base64: bool,
    /// Longest input of an embedding model, context of a generation model. An estimate, as tokens are.
    pub max_tokens: u32,
    /// Texts of one HTTP request.
    pub batch: usize,
    pub query_prefix: String,
    pub passage_prefix: String,
    /// Fields to add to a request; those with null are left out of it.
    pub request: Map<String, Value>,
}

impl RemoteOptions {
    /// Errors: `InvalidArgument` naming the option.
    pub fn parse(kind: ModelKind, json: &str) -> Result<Self, RemoteError> {
        let options: Map<String, Value> =
            serde_json::from_str(json).map_err(|error| wrong(format!("options: {error}")))?;
        let mut parsed = Self {
            model: String::new(),
            dimensions: None,
            send_dimensions: false,
            base64: false,
            max_tokens: if kind == ModelKind::Generate { DEFAULT_CONTEXT_TOKENS } else { DEFAULT_EMBED_TOKENS },
            batch: DEFAULT_BATCH,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            request: Map::new(),
        };
        let embeds = kind == ModelKind::Embed;
        for (name, value) in &options {
            match name.as_str() {
                // Read by the database: the foreign server.
                "server" => {}
                "model" => parsed.model = text(name, value)?,
                "max_tokens" => parsed.max_tokens = number(name, value, 1, 100_000_000)? as u32,
                "request" => parsed.request = fields(value)?,
                "dimensions" if embeds => parsed.dimensions = Some(number(name, value, 1, MAX_DIMENSIONS)? as u32),
                "send_dimensions" if embeds => parsed.send_dimensions = flag(name, value)?,
                "encoding" if embeds => {
                    parsed.base64 = match value.as_str() {
                        Some("base64") => true,
                        Some("float") => false,
                        _ => return Err(wrong("option \"encoding\" must be \"float\" or \"base64\"")),
                    }
                }
                "query_prefix" if embeds => parsed.query_prefix = text(name, value)?,
                "passage_prefix" if embeds => parsed.passage_prefix = text(name, value)?,
                "batch" if kind != ModelKind::Generate => parsed.batch = number(name, value, 1, MAX_BATCH)? as usize,
                _ => {
                    let kind = kind.as_str();
                    return Err(wrong(format!("option \"{name}\" of a remote model of kind \"{kind}\" is not known")));
                }
            }
        }
        if parsed.model.is_empty() {
            return Err(wrong("a remote model needs the option \"model\": its name at the server"));
        }
        if parsed.send_dimensions && parsed.dimensions.is_none() {
            return Err(wrong("option \"send_dimensions\" needs the option \"dimensions\""));
        }
        Ok(parsed)
    }

    /// The bytes of a request, with the fields that options add or leave out.
    pub fn body(&self, mut body: Map<String, Value>) -> Vec<u8> {
        for (name, value) in &self.request {
            match value.is_null() {
                true => drop(body.remove(name)),
                false => drop(body.insert(name.clone(), value.clone())),
            }
        }
        Value::Object(body).to_string().into_bytes()
    }
}

pub(super) fn wrong(message: impl Into<String>) -> RemoteError {
    RemoteError::new(FailureKind::InvalidArgument, message)
}

fn text(name: &str, value: &Value) -> Result<String, RemoteError> {
    match value.as_str() {
        Some(text) if text.len() <= MAX_TEXT_BYTES => Ok(text.to_owned()),
        _ => Err(wrong(format!("option \"{name}\" must be a text of at most {MAX_TEXT_BYTES} bytes"))),
    }
}

fn number(name: &str, value: &Value, low: u64, high: u64) -> Result<u64, RemoteError> {
    let number = value.as_u64().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| wrong(format!("option \"{name}\" must be an integer between {low} and {high}")))
}

fn flag(name: &str, value: &Value) -> Result<bool, RemoteError> {
    value.as_bool().ok_or_else(|| wrong(format!("option \"{name}\" must be true or false")))
}

fn fields(value: &Value) -> Result<Map<String, Value>, RemoteError> {
    let fields = value.as_object().ok_or_else(|| wrong("option \"request\" must be an object"))?;
    match fields.keys().find(|name| FIXED_FIELDS.contains(&name.as_str())) {
        Some(name) => Err(wrong(format!("option \"request\" cannot set \"{name}\""))),
        None => Ok(fields.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_for_their_kind_and_in_range() {
        let parse = |kind, json: &str| RemoteOptions::parse(kind, json).map_err(|error| error.to_string());
        let options = parse(ModelKind::Embed, r#"{"server": "s", "model": "m", "dimensions": 3, "batch": 7}"#).unwrap();
        assert_eq!((options.model.as_str(), options.dimensions, options.batch), ("m", Some(3), 7));
        assert_eq!(options.max_tokens, DEFAULT_EMBED_TOKENS);
        for (kind, json, told) in [
            (ModelKind::Embed, "[]", "options: "),
            (ModelKind::Embed, "{}", "needs the option \"model\""),
            (ModelKind::Embed, r#"{"model": ""}"#, "needs the option \"model\""),
            (ModelKind::Embed, r#"{"model": 1}"#, "option \"model\" must be a text"),
            (ModelKind::Embed, r#"{"model": "m", "dimensions": 0}"#, "between 1 and 16000"),
            (ModelKind::Embed, r#"{"model": "m", "dimensions": 1.5}"#, "between 1 and 16000"),
            (ModelKind::Embed, r#"{"model": "m", "send_dimensions": true}"#, "needs the option \"dimensions\""),
            (ModelKind::Embed, r#"{"model": "m", "encoding": "hex"}"#, "\"float\" or \"base64\""),
            (ModelKind::Embed, r#"{"model": "m", "request": {"input": 1}}"#, "cannot set \"input\""),
            (ModelKind::Generate, r#"{"model": "m", "request": {"stream": true}}"#, "cannot set \"stream\""),
            (ModelKind::Generate, r#"{"model": "m", "dimensions": 3}"#, "kind \"generate\" is not known"),
            (ModelKind::Generate, r#"{"model": "m", "api_key": "sk"}"#, "option \"api_key\""),
            (ModelKind::Rerank, r#"{"model": "m", "encoding": "float"}"#, "kind \"rerank\" is not known"),
        ] {
            let error = parse(kind, json).unwrap_err();
            assert!(error.contains(told), "{json}: {error}");
        }
    }

    #[test]
    fn fields_are_added_and_left_out() {
        let json = r#"{"model": "m", "request": {"temperature": null, "top_k": 4}}"#;
        let options = RemoteOptions::parse(ModelKind::Generate, json).unwrap();
        let Value::Object(body) = serde_json::json!({"model": "m", "temperature": 0.5}) else { unreachable!() };
        assert_eq!(options.body(body), br#"{"model":"m","top_k":4}"#);
    }
}
