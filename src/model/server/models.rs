//! The real models behind the traits of `runtime.rs`.

use super::runtime::{EmbedModel, GenerateModel, Loader, Run, Runtime, TextModel};
use crate::compute::Pool;
use crate::decoder::{Abandoned, Decoder, Generation, Step, PREFIX_CACHE_BYTES};
use crate::encoder::{Encoder, EncoderOptions};
use crate::error::Result;
use crate::source;
use crate::tokenizer::Tokenizer;
use pg_rag_protocol::message::{ChatMessage, GenerateParams, ModelKind, ModelRef, Purpose, TokenizedText, Usage};
use std::any::Any;
use std::path::Path;
use std::sync::Arc;

/// Loads models from the file system, after checking that their files are the registered ones.
pub struct DiskLoader;

impl Loader for DiskLoader {
    fn needed_bytes(&self, model: &ModelRef) -> Result<u64> {
        let weights_bytes = source::memory_bytes(model.kind, Path::new(&model.path))?;
        Ok(match model.kind {
            ModelKind::Embed => weights_bytes,
            ModelKind::Generate => weights_bytes.saturating_add(PREFIX_CACHE_BYTES as u64),
        })
    }

    fn load(&self, model: &ModelRef) -> Result<Runtime> {
        let path = Path::new(&model.path);
        source::load_verified(model, || match model.kind {
            ModelKind::Embed => {
                let options = EncoderOptions::from_json(&model.options_json)?;
                Ok(Runtime::Embed(Arc::new(Encoder::load(path, &options)?)))
            }
            ModelKind::Generate => Ok(Runtime::Generate(Arc::new(SharedDecoder(Arc::new(Decoder::load(path)?))))),
        })
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

    fn prepare(&self, text: &str, purpose: Purpose) -> Result<Vec<u32>> {
        self.prepare(text, purpose)
    }

    fn embed(&self, batch: &[Vec<u32>], pool: &Pool) -> Result<Vec<f32>> {
        self.embed(batch, pool)
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
