//! The header of a GGUF file: enough to describe the model and to know that the file is whole.
//!
//! The format: magic, version, metadata (typed key-value pairs, among them the vocabulary), tensor descriptions,
//! padding, tensor data. Everything before the data is read once, sequentially; arrays are skipped. Every length is
//! checked against what is left of the file before anything is allocated. Called by [`super::inspect`].

use crate::error::{ModelError, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Arrays of arrays deeper than this are refused.
const MAX_ARRAY_DEPTH: usize = 4;

/// A metadata value; arrays are not kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Array,
}

/// One tensor's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    /// Lengths, that of a row first.
    pub dimensions: Vec<u64>,
    pub elements: u64,
    /// Where its data begins, counted from [`Header::data_start`].
    pub offset: u64,
    pub bytes: u64,
    /// Element type as GGUF names it: `Q4_1`.
    pub element_type: &'static str,
}

/// A sound header of a file that holds all the data it describes.
#[derive(Debug)]
pub struct Header {
    path: PathBuf,
    pub metadata: HashMap<String, Value>,
    /// Where in the file the value of each key lies, its type first, in the order of the file.
    pub entries: Vec<(String, Range<u64>)>,
    pub tensors: Vec<Tensor>,
    pub data_start: u64,
    pub file_bytes: u64,
}

impl Header {
    /// Reads and validates the header of the file at `path`.
    ///
    /// Errors: `Missing`, `Unreadable`; `Corrupt` for anything that is not a whole GGUF file; `Unsupported` for another
    /// version of the format or an unknown element type.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| ModelError::from_io(path, error))?;
        let file_bytes = file.metadata().map_err(|error| ModelError::from_io(path, error))?.len();
        let mut input = Input { path, input: BufReader::with_capacity(1 << 16, file), left: file_bytes };
        if &input.bytes::<4>()? != b"GGUF" {
            return Err(ModelError::corrupt(path, "file does not start with the magic number of GGUF"));
        }
        match input.u32()? {
            2 | 3 => {}
            version => return Err(ModelError::Unsupported(format!("GGUF file of version {version}"))),
        }
        let tensor_count = input.u64()?;
        let metadata_count = input.u64()?;
        let mut metadata = HashMap::new();
        let mut entries = Vec::new();
        for _ in 0..metadata_count {
            let key = input.text()?;
            let start = file_bytes - input.left;
            let kind = input.u32()?;
            let value = input.value(kind, 0)?;
            entries.push((key.clone(), start..file_bytes - input.left));
            if metadata.insert(key.clone(), value).is_some() {
                return Err(ModelError::corrupt(path, format!("key \"{key}\" occurs twice")));
            }
        }
        let mut tensors = Vec::new();
        let mut data_bytes = 0;
        for _ in 0..tensor_count {
            let (tensor, end) = input.tensor()?;
            data_bytes = data_bytes.max(end);
            tensors.push(tensor);
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(&Value::Unsigned(alignment)) if alignment.is_power_of_two() && alignment <= 1 << 20 => alignment,
            Some(other) => return Err(ModelError::corrupt(path, format!("alignment is {other:?}"))),
        };
        let data_start = (file_bytes - input.left).next_multiple_of(alignment);
        if data_start.checked_add(data_bytes).is_none_or(|needed| needed > file_bytes) {
            let reason =
                format!("file of {file_bytes} bytes is truncated: its tensors need {data_bytes} after its header");
            return Err(ModelError::corrupt(path, reason));
        }
        Ok(Self { path: path.to_owned(), metadata, entries, tensors, data_start, file_bytes })
    }

    /// A text value that every model has. `Corrupt` if it is missing.
    pub fn text(&self, key: &str) -> Result<&str> {
        match self.metadata.get(key) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(ModelError::corrupt(&self.path, format!("metadata has no text \"{key}\""))),
        }
    }

    /// A whole number that every model has. `Corrupt` if it is missing.
    pub fn unsigned(&self, key: &str) -> Result<u64> {
        let found = match self.metadata.get(key) {
            Some(&Value::Unsigned(number)) => Some(number),
            Some(&Value::Signed(number)) => u64::try_from(number).ok(),
            _ => None,
        };
        found.ok_or_else(|| ModelError::corrupt(&self.path, format!("metadata has no number \"{key}\"")))
    }
}

/// The file with the number of bytes left in it.
struct Input<'a> {
    path: &'a Path,
    input: BufReader<File>,
    left: u64,
}

impl Input<'_> {
    fn take(&mut self, bytes: u64) -> Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(ModelError::corrupt(self.path, "file is truncated in its header")),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| ModelError::from_io(self.path, error))?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn text(&mut self) -> Result<String> {
        let length = self.u64()?;
        self.take(length)?;
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes).map_err(|error| ModelError::from_io(self.path, error))?;
        String::from_utf8(bytes).map_err(|_| ModelError::corrupt(self.path, "text in the header is not UTF-8"))
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        self.take(bytes)?;
        // What is left of a file fits into i64.
        self.input.seek_relative(bytes as i64).map_err(|error| ModelError::from_io(self.path, error))
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.bytes()?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.bytes()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.bytes()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.bytes()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Bool(self.bytes::<1>()? != [0]),
            8 => Value::Text(self.text()?),
            9 => {
                self.skip_array(depth)?;
                Value::Array
            }
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.bytes()?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            other => return Err(ModelError::corrupt(self.path, format!("metadata of unknown type {other}"))),
        })
    }

    fn skip_array(&mut self, depth: usize) -> Result<()> {
        if depth == MAX_ARRAY_DEPTH {
            return Err(ModelError::corrupt(self.path, "metadata is nested too deeply"));
        }
        let kind = self.u32()?;
        let count = self.u64()?;
        let element_bytes = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                for _ in 0..count {
                    let length = self.u64()?;
                    self.skip(length)?;
                }
                return Ok(());
            }
            _ => {
                for _ in 0..count {
                    self.value(kind, depth + 1)?;
                }
                return Ok(());
            }
        };
        self.skip(count.saturating_mul(element_bytes))
    }

    /// A tensor's description, and where its data ends, counted from the start of the data.
    fn tensor(&mut self) -> Result<(Tensor, u64)> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > 8 {
            return Err(ModelError::corrupt(self.path, format!("tensor \"{name}\" has {dimensions} dimensions")));
        }
        let mut elements = Some(1_u64);
        let dimensions = (0..dimensions).map(|_| self.u64()).collect::<Result<Vec<_>>>()?;
        for &length in &dimensions {
            elements = elements.and_then(|elements| elements.checked_mul(length));
        }
        let kind = self.u32()?;
        let offset = self.u64()?;
        let (element_type, block_elements, block_bytes) = element_type(kind)
            .ok_or_else(|| ModelError::Unsupported(format!("tensor \"{name}\" has elements of type {kind}")))?;
        let bytes = elements.and_then(|elements| elements.div_ceil(block_elements).checked_mul(block_bytes));
        match (elements, bytes, bytes.and_then(|bytes| bytes.checked_add(offset))) {
            (Some(elements), Some(bytes), Some(end)) => {
                Ok((Tensor { name, dimensions, elements, offset, bytes, element_type }, end))
            }
            _ => Err(ModelError::corrupt(self.path, format!("tensor \"{name}\" is larger than any file"))),
        }
    }
}

/// Name, elements per block and bytes per block of a ggml element type.
fn element_type(kind: u32) -> Option<(&'static str, u64, u64)> {
    Some(match kind {
        0 => ("F32", 1, 4),
        1 => ("F16", 1, 2),
        2 => ("Q4_0", 32, 18),
        3 => ("Q4_1", 32, 20),
        6 => ("Q5_0", 32, 22),
        7 => ("Q5_1", 32, 24),
        8 => ("Q8_0", 32, 34),
        9 => ("Q8_1", 32, 36),
        10 => ("Q2_K", 256, 84),
        11 => ("Q3_K", 256, 110),
        12 => ("Q4_K", 256, 144),
        13 => ("Q5_K", 256, 176),
        14 => ("Q6_K", 256, 210),
        15 => ("Q8_K", 256, 292),
        16 => ("IQ2_XXS", 256, 66),
        17 => ("IQ2_XS", 256, 74),
        18 => ("IQ3_XXS", 256, 98),
        19 => ("IQ1_S", 256, 50),
        20 => ("IQ4_NL", 32, 18),
        21 => ("IQ3_S", 256, 110),
        22 => ("IQ2_S", 256, 82),
        23 => ("IQ4_XS", 256, 136),
        24 => ("I8", 1, 1),
        25 => ("I16", 1, 2),
        26 => ("I32", 1, 4),
        27 => ("I64", 1, 8),
        28 => ("F64", 1, 8),
        29 => ("IQ1_M", 256, 56),
        30 => ("BF16", 1, 2),
        34 => ("TQ1_0", 256, 54),
        35 => ("TQ2_0", 256, 66),
        39 => ("MXFP4", 32, 17),
        _ => return None,
    })
}
