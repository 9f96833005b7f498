//! What a model will take in memory, by its headers.

use super::config::Config;
use super::folder::FolderTensors;
use super::folder_config::FolderConfig;
use super::forward::SLICE_TOKENS;
use super::gguf::GgufFile;
use super::kv_cache::KvCache;
use super::lora::tensor_name;
use super::speculation::MOST_TOKENS;
use super::tensors::{Elements, Tensors};
use crate::adapter::{AdapterFiles, Base};
use crate::compute::quant::activations::XUnit;
use crate::compute::quant::UNIT;
use crate::error::Result;
use crate::source::Generator;
use std::path::Path;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderNeeds {
    /// Of a position in the cache of keys and values.
    pub position: u64,
    /// Of the buffers of a pass.
    pub activations: u64,
    /// Longest sequence.
    pub context_tokens: usize,
    /// Tokens that have a vector.
    pub vocabulary: usize,
}

/// The tensors of the model at `path`, unread, and its configuration.
fn open(path: &Path) -> Result<(Box<dyn Tensors>, Config)> {
    Ok(match Generator::find(path)? {
        Generator::Gguf(path) => {
            let mut file = GgufFile::open(&path)?;
            let config = Config::from_gguf(&mut file)?;
            (Box::new(file), config)
        }
        Generator::Folder(dir) => {
            let config = FolderConfig::read(&dir)?;
            (Box::new(FolderTensors::open(&dir, &config)?), config.config)
        }
    })
}

/// Reads the headers of the model at `path`. Errors: as for [`super::Decoder::load`].
pub fn needs(path: &Path) -> Result<DecoderNeeds> {
    let (mut tensors, config) = open(path)?;
    let vocabulary = tensors.find("token_embd.weight")?.and_then(|tensor| tensor.shape.first().copied()).unwrap_or(0);
    let (hidden, feed_forward) = (config.hidden, config.feed_forward);
    let number = size_of::<f32>();
    // Numbers that are multiplied with weights are there a second time, rounded.
    let both = number + size_of::<XUnit>().div_ceil(UNIT);
    let token = number * (2 * hidden + config.q_len() + 2 * config.kv_len() + 2 * feed_forward)
        + both * (hidden + config.q_len() + feed_forward);
    let logits = number * vocabulary * (MOST_TOKENS + 1);
    Ok(DecoderNeeds {
        position: KvCache::position_bytes(&config) as u64,
        activations: (SLICE_TOKENS * token + logits) as u64,
        context_tokens: config.context_tokens,
        vocabulary,
    })
}

/// Bytes that the adapter in `dir` takes on the model at `base`, which is shared: its factors, and copies of the matrices
/// that they are added to.
///
/// Errors: those of reading the two; as for [`AdapterFiles::check`] when they do not fit each other.
pub fn adapter_needs(base: &Path, dir: &Path) -> Result<u64> {
    let (mut tensors, config) = open(base)?;
    let adapter = AdapterFiles::open(dir)?;
    let mut bytes = 0;
    for (layer, target) in adapter.check(&config)?.into_keys() {
        let tensor = tensors.find(&tensor_name(layer, target))?;
        let numbers = tensor.filter(|tensor| matches!(tensor.elements, Elements::Numbers(_)));
        let (outputs, inputs) = config.shape(target);
        let factors = (outputs + inputs) * adapter.rank() * size_of::<f32>();
        bytes += numbers.map_or(factors, |tensor| tensor.bytes.len()) as u64;
    }
    Ok(bytes)
}
