//! The real models behind the traits of `runtime.rs`.

use super::runtime::{EmbedModel, GenerateModel, Loader, Needs, RerankModel, Run, Runtime, TextModel};
use crate::accelerator::Accelerator;
use crate::compute::Pool;
use crate::decoder::{self, Abandoned, Decoder, Generation, Step, PREFIX_CACHE_BYTES};
use crate::encoder::config::{EncoderConfig, RerankerOptions, TextConfig};
use crate::encoder::reranker::{Reranker, RerankerConfig};
use crate::encoder::{self, Dtype, Encoder, EncoderNeeds, EncoderOptions, Interrupted};
use crate::error::{ModelError, Result};
use crate::quantize::{self, Mix};
use crate::source;
use crate::tokenizer::Tokenizer;
use pg_rag_protocol::message::{ChatMessage, GenerateParams, ModelKind, ModelRef, Purpose, TokenizedText, Usage};
use std::any::Any;
use std::path::Path;
use std::sync::Arc;

/// Bytes that a token takes in the tables of a vocabulary, merges included: measured.
const TOKEN_BYTES: u64 = 400;

/// Loads models from the file system, after checking that their files are the registered ones.
pub struct DiskLoader {
    /// Threads that compute.
    pub threads: usize,
    /// Where models compute, if not on the processor.
    pub accelerator: Option<Arc<Accelerator>>,
}

impl Loader for DiskLoader {
    fn needs(&self, model: &ModelRef, context_tokens: Option<usize>, mix: Option<Mix>) -> Result<Needs> {
        let path = Path::new(&model.path);
        if let Some(base) = &model.base {
            // The base is counted for itself.
            let weights = decoder::adapter_needs(Path::new(&base.path), path)?;
            return Ok(Needs { weights, vocabulary: 0, ..self.needs(base, context_tokens, mix)? });
        }
        let weights = source::memory_bytes(model.kind, path)?;
        match model.kind {
            ModelKind::Embed => {
                let options = EncoderOptions::from_json(&model.options_json)?;
                let config = EncoderConfig::read(path, &options)?;
                Ok(self.encoder_needs(&config.text, options.dtype, weights))
            }
            ModelKind::Rerank => {
                let options = RerankerOptions::from_json(&model.options_json)?;
                let config = RerankerConfig::read(path, &options)?;
                Ok(self.encoder_needs(&config.text, options.dtype, weights))
            }
            ModelKind::Generate => {
                let needs = decoder::needs(path)?;
                let tokens = context_tokens.unwrap_or(needs.context_tokens).min(needs.context_tokens);
                let (kind, weights) = match mix {
                    Some(mix) => (mix.to_string(), quantize::planned_bytes(&quantize::open(path)?, mix)),
                    None => (source::inspect_decoder(path)?.quantization, weights),
                };
                Ok(Needs {
                    kind,
                    weights,
                    vocabulary: needs.vocabulary as u64 * TOKEN_BYTES,
                    activations: needs.activations,
                    prefix_cache: if self.accelerator.is_none() { PREFIX_CACHE_BYTES as u64 } else { 0 },
                    kv_cache: needs.position.saturating_mul(tokens as u64),
                    context_tokens: tokens,
                })
            }
        }
    }

    fn load(&self, model: &ModelRef) -> Result<Runtime> {
        let (path, accelerator) = (Path::new(&model.path), self.accelerator.as_ref());
        source::load_verified(model, || match model.kind {
            ModelKind::Embed => {
                let options = EncoderOptions::from_json(&model.options_json)?;
                Ok(Runtime::Embed(Arc::new(Encoder::load_on(path, &options, accelerator)?)))
            }
            ModelKind::Rerank => {
                let options = RerankerOptions::from_json(&model.options_json)?;
                Ok(Runtime::Rerank(Arc::new(Reranker::load_on(path, &options, accelerator)?)))
            }
            ModelKind::Generate => {
                let decoder = Decoder::load_on(path, accelerator)?;
                Ok(Runtime::Generate(Arc::new(SharedDecoder(Arc::new(decoder)))))
            }
        })
    }

    fn load_adapter(&self, adapter: &ModelRef, base: &Runtime) -> Result<Runtime> {
        let Runtime::Generate(base) = base else {
            return Err(ModelError::InvalidArgument("an embedding model cannot be the base of an adapter".into()));
        };
        let dir = Path::new(&adapter.path);
        source::load_verified(adapter, || Ok(Runtime::Generate(base.with_adapter(dir)?)))
    }
}

impl DiskLoader {
    /// Of an encoder whose weights take so many bytes in single precision.
    fn encoder_needs(&self, text: &TextConfig, dtype: Dtype, weights: u64) -> Needs {
        let EncoderNeeds { activations, linear_numbers, vocabulary } = encoder::needs(text, self.threads);
        // Bytes of each that are saved. A device has two where the processor has one.
        let (kind, saved) = match (dtype, &self.accelerator) {
            (Dtype::F32, _) => ("F32", 0),
            (Dtype::Int8, None) => ("INT8", 3 * linear_numbers),
            (Dtype::Int8, Some(_)) => ("F16", 2 * linear_numbers),
        };
        let (kind, vocabulary) = (kind.to_owned(), vocabulary as u64 * TOKEN_BYTES);
        Needs { kind, weights: weights.saturating_sub(saved), vocabulary, activations, ..Needs::default() }
    }
}

fn detokenize(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String> {
    tokenizer.decode(ids, true)
}

impl TextModel for Encoder {
    fn tokenize(&self, text: &str, add_special: bool) -> Result<TokenizedText> {
        self.tokenizer().encode(text, add_special)
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String> {
        detokenize(self.tokenizer(), ids)
    }

    fn resident_bytes(&self) -> u64 {
        self.resident_bytes()
    }
}

impl EmbedModel for Encoder {
    fn dimensions(&self) -> usize {
        self.dims()
    }

    fn token_dimensions(&self) -> usize {
        self.token_dims()
    }

    fn prepare(&self, text: &str, purpose: Purpose) -> Result<Vec<u32>> {
        self.prepare(text, purpose)
    }

    fn prepare_tokens(&self, text: &str) -> Result<(TokenizedText, Vec<String>)> {
        let tokens = self.prepare_tokens(text)?;
        let spelling = |id: &u32| self.tokenizer().inner().id_to_token(*id).unwrap_or_default();
        let spellings = tokens.ids.iter().map(spelling).collect();
        Ok((tokens, spellings))
    }

    fn embed(
        &self,
        batch: &[Vec<u32>],
        pool: &Pool,
        abandoned: Abandoned<'_>,
        urgent: Interrupted<'_>,
    ) -> Result<Vec<f32>> {
        self.embed_until(batch, pool, abandoned, urgent)
    }

    fn embed_tokens(&self, batch: &[Vec<u32>], pool: &Pool, abandoned: Abandoned<'_>) -> Result<Vec<f32>> {
        self.embed_tokens(batch, pool, abandoned)
    }
}

impl TextModel for Reranker {
    fn tokenize(&self, text: &str, add_special: bool) -> Result<TokenizedText> {
        self.tokenizer().encode(text, add_special)
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String> {
        detokenize(self.tokenizer(), ids)
    }

    fn resident_bytes(&self) -> u64 {
        self.resident_bytes()
    }
}

impl RerankModel for Reranker {
    fn prepare(&self, query: &str, passages: &[String]) -> Result<Vec<Vec<u32>>> {
        let query = self.segment(query)?;
        passages.iter().map(|passage| Ok(self.pair(&query, &self.segment(passage)?))).collect()
    }

    fn score(&self, batch: &[Vec<u32>], pool: &Pool, abandoned: Abandoned<'_>) -> Result<Vec<f32>> {
        self.score(batch, pool, abandoned)
    }
}

/// Generations share the weights.
struct SharedDecoder(Arc<Decoder>);

impl TextModel for SharedDecoder {
    fn tokenize(&self, text: &str, add_special: bool) -> Result<TokenizedText> {
        self.0.tokenizer().encode(text, add_special)
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String> {
        detokenize(self.0.tokenizer(), ids)
    }

    fn resident_bytes(&self) -> u64 {
        self.0.resident_bytes()
    }
}

impl GenerateModel for SharedDecoder {
    fn prompt_tokens(&self, messages: &[ChatMessage]) -> Result<Vec<u32>> {
        self.0.prompt_tokens(messages)
    }

    fn with_adapter(&self, dir: &Path) -> Result<Arc<dyn GenerateModel>> {
        Ok(Arc::new(SharedDecoder(Arc::new(self.0.with_adapter(dir)?))))
    }

    fn check(&self, params: &GenerateParams) -> Result<()> {
        // What is compiled for it is kept for the start.
        self.0.constraint(params).map(drop)
    }

    fn sequence_bytes(&self, tokens: usize) -> u64 {
        self.0.sequence_bytes(tokens.min(self.0.context_tokens())) as u64
    }

    fn start(self: Arc<Self>, prompt: Vec<u32>, params: GenerateParams) -> Result<Box<dyn Run>> {
        Ok(Box::new(Generation::new(self.0.clone(), prompt, params)?))
    }

    fn step_together(&self, runs: &mut [&mut dyn Run], pool: &Pool, abandoned: Abandoned<'_>) -> Vec<Result<Step>> {
        let mut generations = Vec::with_capacity(runs.len());
        for run in runs.iter_mut() {
            let run: &mut dyn Any = *run;
            generations.extend(run.downcast_mut::<Generation>());
        }
        // Runs of this model are generations: it started them.
        Generation::step_together(&mut generations, pool, abandoned)
    }
}

impl Run for Generation {
    fn is_prefilling(&self) -> bool {
        self.is_prefilling()
    }

    fn step(&mut self, pool: &Pool, abandoned: Abandoned<'_>) -> Result<Step> {
        self.step(pool, abandoned)
    }

    fn text(&self) -> &str {
        self.text()
    }

    fn usage(&self) -> Usage {
        self.usage()
    }
}
