//! Cross-encoders: how well a passage answers a query, by reading the two together.
//!
//! A [`Reranker`] is a transformer with a classification head of one label, as CrossEncoder of sentence-transformers takes
//! it: the pair is one text of two segments, cut at the longer one where it is too long, and the score is the head's
//! number, between 0 and 1 unless the model's configuration says otherwise. Used by the server as embedding models are;
//! a pair's tokens carry [`SECOND`] where they are of the second segment.

use super::config::{RerankerOptions, TextConfig};
use super::engine::Engine;
use super::head::{normalized, sigmoid, Dense, HeadActivation};
use super::kernels::Norm;
use super::leading::{leading_ids, Cuts};
use super::modules::{activation, Pooling};
use super::passes::Outcome;
use super::pooling::pool_rows;
use super::shape::{Activation, Family};
use super::transformer::{Transformer, SECOND};
use super::{check_vocabulary, load_text_parts, TOKENIZER_FILE};
use crate::accelerator::Accelerator;
use crate::compute::Pool;
use crate::decoder::Abandoned;
use crate::error::{ModelError, Result};
use crate::source::safetensors::Checkpoint;
use crate::tokenizer::Tokenizer;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Everything but the weights and the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct RerankerConfig {
    pub text: TextConfig,
    pooling: Pooling,
    /// Whether scores are squeezed between 0 and 1.
    squeezed: bool,
    /// Of the layer before the last, where it has biases of its own; ModernBERT's may have none.
    head_bias: bool,
    head_activation: HeadActivation,
}

impl RerankerConfig {
    /// Reads the configuration files in `dir`. Errors as those of an embedding model.
    pub fn read(dir: &Path, options: &RerankerOptions) -> Result<Self> {
        let (text, config) = TextConfig::read(dir, options.max_tokens)?;
        let classes = config.get("architectures").and_then(Value::as_array);
        let class = classes.and_then(|classes| classes.first()?.as_str()).unwrap_or_default();
        if !class.ends_with("ForSequenceClassification") {
            return Err(ModelError::Unsupported(format!(
                "\"{class}\" as reranking model, which has no head for scores"
            )));
        }
        let named = config.get("id2label").and_then(Value::as_object).map(|labels| labels.len() as u64);
        let labels = named.or_else(|| config.get("num_labels")?.as_u64()).unwrap_or(2);
        if labels != 1 {
            return Err(ModelError::Unsupported(format!("reranking model with {labels} scores for each pair")));
        }
        let mut pooling = Pooling::Cls;
        let mut head_bias = true;
        let head_activation = match text.shape.family {
            Family::Bert | Family::Roberta | Family::MpNet => HeadActivation::Tanh,
            Family::DistilBert => HeadActivation::Of(Activation::Relu),
            Family::ModernBert => {
                pooling = match config.get("classifier_pooling").and_then(Value::as_str).unwrap_or("cls") {
                    "cls" => Pooling::Cls,
                    "mean" => Pooling::Mean,
                    other => return Err(ModelError::Unsupported(format!("pooling mode \"{other}\""))),
                };
                head_bias = config.get("classifier_bias").and_then(Value::as_bool).unwrap_or(false);
                match config.get("classifier_activation").and_then(Value::as_str).unwrap_or("gelu") {
                    "gelu" => HeadActivation::Of(Activation::Gelu),
                    other => return Err(ModelError::Unsupported(format!("activation \"{other}\""))),
                }
            }
            Family::NomicBert | Family::JinaBert | Family::Qwen3 => {
                return Err(ModelError::Unsupported(format!("\"{}\" as reranking model", text.architecture)));
            }
        };
        let squeezed = is_squeezed(dir, &config)?;
        Ok(Self { text, pooling, squeezed, head_bias, head_activation })
    }

    /// Names of the layer before the last, of a norm between the two, and of the last.
    fn head_names(&self) -> (&'static str, Option<&'static str>, &'static str) {
        match self.text.shape.family {
            Family::DistilBert => ("pre_classifier", None, "classifier"),
            Family::Roberta | Family::MpNet => ("classifier.dense", None, "classifier.out_proj"),
            Family::ModernBert => ("head.dense", Some("head.norm"), "classifier"),
            Family::Bert | Family::NomicBert | Family::JinaBert | Family::Qwen3 => {
                ("bert.pooler.dense", None, "classifier")
            }
        }
    }
}

/// Whether scores go through a sigmoid: where nobody has said anything else, as for all with one label. Versions of
/// sentence-transformers have said it in three places.
fn is_squeezed(dir: &Path, config: &Value) -> Result<bool> {
    let sentence: Option<Value> = super::config::read_json(&dir.join("config_sentence_transformers.json"))?;
    let class = sentence
        .as_ref()
        .and_then(|sentence| sentence.get("activation_fn")?.as_str())
        .or_else(|| config.get("sentence_transformers")?.get("activation_fn")?.as_str())
        .or_else(|| config.get("sbert_ce_default_activation_function")?.as_str());
    match class.map(activation).transpose()? {
        None | Some(HeadActivation::Sigmoid) => Ok(true),
        Some(HeadActivation::None) => Ok(false),
        Some(_) => Err(ModelError::Unsupported(format!("activation \"{}\" of scores", class.unwrap_or_default()))),
    }
}

/// What makes a score of a pair's last hidden state.
struct Head {
    dense: Dense,
    norm: Option<Norm>,
    last: Dense,
}

impl Head {
    fn load(config: &RerankerConfig, checkpoint: &Checkpoint) -> Result<Self> {
        let hidden = config.text.shape.hidden;
        let (dense, norm, last) = config.head_names();
        let dense = Dense::load(checkpoint, dense, (hidden, hidden), config.head_bias, config.head_activation)?;
        let norm = norm.map(|name| read_norm(config, checkpoint, name)).transpose()?;
        let last = Dense::load(checkpoint, last, (1, hidden), true, HeadActivation::None)?;
        Ok(Self { dense, norm, last })
    }
}

fn read_norm(config: &RerankerConfig, checkpoint: &Checkpoint, name: &str) -> Result<Norm> {
    let shape = &config.text.shape;
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    checkpoint.read_f32(&format!("{name}.weight"), &[shape.hidden], &mut weight)?;
    match shape.norm_bias {
        true => checkpoint.read_f32(&format!("{name}.bias"), &[shape.hidden], &mut bias)?,
        false => bias.resize(shape.hidden, 0.0),
    }
    Ok(Norm::new(&weight, &bias, shape.norm_epsilon))
}

/// A loaded cross-encoder. Shared between threads.
pub struct Reranker {
    config: RerankerConfig,
    tokenizer: Tokenizer,
    cuts: Option<Cuts>,
    engine: Engine,
    head: Head,
    frame: Frame,
}

/// Special tokens before, between and after the texts of a pair, and what is added to the ids of the second.
struct Frame {
    opening: Vec<u32>,
    middle: Vec<u32>,
    closing: Vec<u32>,
    second: u32,
}

impl Reranker {
    /// Loads the model in `dir`. Errors as [`super::Encoder::load`].
    pub fn load(dir: &Path, options: &RerankerOptions) -> Result<Self> {
        Self::load_on(dir, options, None)
    }

    /// Loads it to compute on a device, if one is given. Errors as [`super::Encoder::load_on`].
    pub fn load_on(dir: &Path, options: &RerankerOptions, accelerator: Option<&Arc<Accelerator>>) -> Result<Self> {
        let mut config = RerankerConfig::read(dir, options)?;
        let (tokenizer, engine) = load_text_parts(dir, &config.text, options.dtype, accelerator)?;
        let head = Head::load(&config, &Checkpoint::open(dir)?)?;
        let one_type = !engine.knows_second() || !config.text.marks_second;
        let frame = Frame::of(&tokenizer, one_type)?;
        let fewest = (frame.len() + 2).min(config.text.shape.positions);
        config.text.max_tokens = config.text.max_tokens.max(fewest);
        let cuts = Cuts::of(&tokenizer);
        Ok(Self { config, tokenizer, cuts, engine, head, frame })
    }

    /// Longest pair in tokens, special tokens included; longer ones are truncated.
    pub fn max_tokens(&self) -> usize {
        self.config.text.max_tokens
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Bytes that the weights occupy.
    pub fn resident_bytes(&self) -> u64 {
        (self.engine.resident_bytes() + self.head.dense.bytes() + self.head.last.bytes()) as u64
    }

    /// Token ids of a text for [`Reranker::pair`]: as many as could be of use.
    pub fn segment(&self, text: &str) -> Result<Vec<u32>> {
        leading_ids(&self.tokenizer, self.cuts, text, self.config.text.lower_case, self.max_tokens())
    }

    /// The pair of two texts that [`Reranker::segment`] has made ids of, as the model takes it.
    pub fn pair(&self, query: &[u32], passage: &[u32]) -> Vec<u32> {
        let room = self.max_tokens().saturating_sub(self.frame.len());
        let (first, second) = longest_first(query.len(), passage.len(), room);
        let Frame { opening, middle, closing, second: mark } = &self.frame;
        let mut ids = Vec::with_capacity(self.frame.len() + first + second);
        ids.extend(opening);
        ids.extend(&query[..first]);
        ids.extend(middle);
        ids.extend(passage[..second].iter().map(|id| id | mark));
        ids.extend(closing);
        ids
    }

    /// The scores of pairs that [`Reranker::pair`] has made, in the order of `batch`.
    ///
    /// Errors: `InvalidArgument` for ids that are not of this model; `Cancelled` once `abandoned`.
    pub fn score(&self, batch: &[Vec<u32>], pool: &Pool, abandoned: Abandoned<'_>) -> Result<Vec<f32>> {
        self.engine.run(batch, pool, &Score(self), abandoned)
    }
}

/// One number for each pair.
struct Score<'a>(&'a Reranker);

impl Outcome for Score<'_> {
    fn numbers(&self, _tokens: usize) -> usize {
        1
    }

    fn write(&self, rows: &[f32], result: &mut [f32]) {
        let Reranker { config, head, .. } = self.0;
        let hidden = config.text.shape.hidden;
        let mut vector = vec![0.0; hidden];
        pool_rows(rows, hidden, &[config.pooling], false, &mut vector);
        vector = head.dense.apply(&vector);
        if let Some(norm) = &head.norm {
            vector = normalized(&vector, norm);
        }
        let score = head.last.apply(&vector)[0];
        result[0] = if config.squeezed { sigmoid(score) } else { score };
    }
}

impl Frame {
    /// As the tokenizer puts it around a pair. `one_type`: the model knows one type of tokens only.
    fn of(tokenizer: &Tokenizer, one_type: bool) -> Result<Self> {
        let bare = tokenizer.encode_ids("a", false)?;
        let (ids, types) = tokenizer.encode_pair("a", "a")?;
        let find = |from: usize| {
            let rest = ids.get(from..)?;
            rest.windows(bare.len().max(1)).position(|window| window == bare).map(|at| from + at)
        };
        let places = find(0).and_then(|first| Some((first, find(first + bare.len())?)));
        let Some((first, second)) = places.filter(|_| !bare.is_empty()) else {
            return Err(ModelError::Unsupported(
                "tokenizer that changes texts when it makes a pair of them".to_owned(),
            ));
        };
        let mark = |at: usize| if one_type || types[at] == 0 { 0 } else { SECOND };
        let part = |range: std::ops::Range<usize>| range.map(|at| ids[at] | mark(at)).collect();
        Ok(Self {
            opening: part(0..first),
            middle: part(first + bare.len()..second),
            closing: part(second + bare.len()..ids.len()),
            second: mark(second),
        })
    }

    fn len(&self) -> usize {
        self.opening.len() + self.middle.len() + self.closing.len()
    }
}

/// How many tokens of two texts of so many are kept where there is room for `room`: the longer one is cut, down to the
/// shorter one or to half the room; then both. (Which of two that are cut to halves of an odd number of tokens gets the one
/// more is open where both are longer than the model's inputs.)
fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    let shorter = first.min(second);
    let mut kept = (shorter, if shorter > room { shorter } else { shorter.max(room - shorter) });
    if kept.0 + kept.1 > room {
        kept = (room / 2, room - room / 2);
    }
    if first > second {
        kept = (kept.1, kept.0);
    }
    (kept.0.min(first), kept.1.min(second))
}

/// Checks that the folder has the vocabulary and the weights that `config` describes. Called to inspect a model.
pub(crate) fn check_files(dir: &Path, config: &RerankerConfig, checkpoint: &Checkpoint) -> Result<()> {
    Transformer::check(&config.text.shape, checkpoint)?;
    Head::load(config, checkpoint)?;
    let path = dir.join(TOKENIZER_FILE);
    check_vocabulary(&path, &Tokenizer::from_file(&path)?, &config.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_text_is_cut_first() {
        assert_eq!(longest_first(3, 4, 10), (3, 4));
        assert_eq!(longest_first(3, 40, 10), (3, 7));
        assert_eq!(longest_first(40, 3, 10), (7, 3));
        assert_eq!(longest_first(40, 6, 11), (6, 5));
        assert_eq!(longest_first(40, 41, 11), (5, 6));
        assert_eq!(longest_first(0, 40, 11), (0, 11));
        assert_eq!(longest_first(5, 5, 0), (0, 0));
    }
}
