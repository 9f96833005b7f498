//! A GGUF file opened for loading: its metadata, and its tensors as byte ranges of the map.
//!
//! [`crate::source::gguf`] validates the header first (truncation, alignment, sizes); candle then reads it again with
//! the arrays, which hold the vocabulary.

use super::mapped_file::MappedFile;
use super::tensors::{Elements, Tensor, Tensors};
use crate::compute::dense::Element;
use crate::compute::quant::BlockFormat;
use crate::error::{ModelError, Result};
use crate::source::gguf::Header;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::GgmlDType;
use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Element types that have kernels.
const READABLE: [&str; 13] =
    ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"];

/// Tensors that an error names; it counts the others.
const MOST_NAMED: usize = 8;

pub struct GgufFile {
    path: PathBuf,
    map: Arc<MappedFile>,
    content: Content,
    /// Tensors nobody has asked for yet.
    unused: HashSet<String>,
}

impl GgufFile {
    /// Opens and validates a file.
    ///
    /// Errors: `Missing`, `Unreadable`; `Corrupt` for a truncated or malformed file; `Unsupported` for element types
    /// without a kernel.
    pub fn open(path: &Path) -> Result<Self> {
        let header = Header::read(path)?;
        refuse_unreadable(&header)?;
        let map = Arc::new(MappedFile::open(path)?);
        let content = Content::read(&mut Cursor::new(&map[..])).map_err(|error| ModelError::corrupt(path, error))?;
        let unused = content.tensor_infos.keys().cloned().collect();
        Ok(Self { path: path.to_owned(), map, content, unused })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn metadata(&self) -> &HashMap<String, Value> {
        &self.content.metadata
    }

    /// A [`ModelError::Corrupt`] for this file.
    pub fn corrupt(&self, reason: impl std::fmt::Display) -> ModelError {
        ModelError::corrupt(&self.path, reason)
    }

    /// A text of the metadata, if it is there.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata().get(key).and_then(|value| value.to_string().ok()).map(String::as_str)
    }

    /// A whole number of the metadata, if it is there. `Corrupt` if it is something else.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.metadata().get(key) else { return Ok(None) };
        match unsigned(value).and_then(|number| usize::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.corrupt(format!("\"{key}\" is not a number"))),
        }
    }

    /// A fraction of the metadata, if it is there. `Corrupt` if it is something else or not finite.
    pub fn fraction(&self, key: &str) -> Result<Option<f32>> {
        let Some(value) = self.metadata().get(key) else { return Ok(None) };
        let number = value.to_f32().or_else(|_| value.to_f64().map(|number| number as f32));
        match number {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.corrupt(format!("\"{key}\" is not a finite number"))),
        }
    }
}

impl Tensors for GgufFile {
    fn find(&mut self, name: &str) -> Result<Option<Tensor>> {
        let Some(info) = self.content.tensor_infos.get(name) else { return Ok(None) };
        self.unused.remove(name);
        let broken = || ModelError::corrupt(&self.path, format!("tensor \"{name}\" lies outside the file"));
        let shape = info.shape.dims().to_vec();
        let elements = shape.iter().try_fold(1_usize, |product, &len| product.checked_mul(len)).ok_or_else(broken)?;
        let (block, block_bytes) = (info.ggml_dtype.block_size(), info.ggml_dtype.type_size());
        if !shape.last().unwrap_or(&0).is_multiple_of(block) {
            return Err(GgufFile::corrupt(self, format!("rows of tensor \"{name}\" do not consist of whole blocks")));
        }
        let start = self.content.tensor_data_offset.checked_add(info.offset);
        let start = start.and_then(|start| usize::try_from(start).ok()).ok_or_else(broken)?;
        let end = (elements / block).checked_mul(block_bytes).and_then(|bytes| bytes.checked_add(start));
        let end = end.filter(|&end| end <= self.map.len()).ok_or_else(broken)?;
        let unsupported = || ModelError::Unsupported(format!("elements of tensor \"{name}\" ({:?})", info.ggml_dtype));
        let elements = elements_of(info.ggml_dtype).ok_or_else(unsupported)?;
        Ok(Some(Tensor { name: name.to_owned(), shape, elements, map: Arc::clone(&self.map), bytes: start..end }))
    }

    fn own_name(&self, name: &str) -> String {
        name.to_owned()
    }

    fn corrupt(&self, reason: String) -> ModelError {
        GgufFile::corrupt(self, reason)
    }

    fn norm_offset(&self) -> f32 {
        0.0
    }

    fn unused(&self) -> Option<String> {
        self.unused.iter().min().cloned()
    }
}

/// `None` for what is not an element type of weights.
fn elements_of(element_type: GgmlDType) -> Option<Elements> {
    Some(match element_type {
        GgmlDType::F32 => Elements::Numbers(Element::F32),
        GgmlDType::F16 => Elements::Numbers(Element::F16),
        GgmlDType::BF16 => Elements::Numbers(Element::BF16),
        GgmlDType::Q4_0 => Elements::Blocks(BlockFormat::Q4_0),
        GgmlDType::Q4_1 => Elements::Blocks(BlockFormat::Q4_1),
        GgmlDType::Q5_0 => Elements::Blocks(BlockFormat::Q5_0),
        GgmlDType::Q5_1 => Elements::Blocks(BlockFormat::Q5_1),
        GgmlDType::Q8_0 => Elements::Blocks(BlockFormat::Q8_0),
        GgmlDType::Q2K => Elements::Blocks(BlockFormat::Q2_K),
        GgmlDType::Q3K => Elements::Blocks(BlockFormat::Q3_K),
        GgmlDType::Q4K => Elements::Blocks(BlockFormat::Q4_K),
        GgmlDType::Q5K => Elements::Blocks(BlockFormat::Q5_K),
        GgmlDType::Q6K => Elements::Blocks(BlockFormat::Q6_K),
        _ => return None,
    })
}

/// Errors: `Unsupported`, naming the tensors that have elements without a kernel.
fn refuse_unreadable(header: &Header) -> Result<()> {
    let unreadable = header.tensors.iter().filter(|tensor| !READABLE.contains(&tensor.element_type));
    let named: Vec<String> =
        unreadable.map(|tensor| format!("\"{}\" ({})", tensor.name, tensor.element_type)).collect();
    if named.is_empty() {
        return Ok(());
    }
    let (first, more) = named.split_at(named.len().min(MOST_NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Err(ModelError::Unsupported(format!("elements of tensors {}{more}", first.join(", "))))
}

/// A whole number of any width that is not negative.
fn unsigned(value: &Value) -> Option<u64> {
    match *value {
        Value::U8(number) => Some(number.into()),
        Value::U16(number) => Some(number.into()),
        Value::U32(number) => Some(number.into()),
        Value::U64(number) => Some(number),
        Value::I8(number) => number.try_into().ok(),
        Value::I16(number) => number.try_into().ok(),
        Value::I32(number) => number.try_into().ok(),
        Value::I64(number) => number.try_into().ok(),
        _ => None,
    }
}
