//! Reading safetensors files: one file, or the shards that an index names.
//!
//! Headers are read and validated without touching the tensors, so opening costs a few kilobytes of I/O whatever the
//! size of the model. Tensors are read one by one, converted to f32. Called by [`super`] for inspection and by the
//! encoder for its weights.

use crate::error::{ModelError, Result};
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The format's own limit for a header.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// File name of an unsharded checkpoint.
pub const SINGLE_FILE: &str = "model.safetensors";
/// File names of weights in a form that is never read.
const PICKLES: [&str; 5] =
    ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.pt", "model.pt", "model.ckpt"];
/// File name of the index of a sharded checkpoint.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// One open file whose header is sound and whose length is what the header says.
struct Shard {
    path: PathBuf,
    file: File,
    /// Offset of the first tensor's bytes.
    data_start: u64,
    header: Metadata,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let from_io = |error| ModelError::from_io(&path, error);
        let file = File::open(&path).map_err(from_io)?;
        let file_bytes = file.metadata().map_err(from_io)?.len();
        let truncated = || ModelError::corrupt(&path, format!("file of {file_bytes} bytes is truncated"));
        if file_bytes < 8 {
            return Err(truncated());
        }
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).map_err(from_io)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(ModelError::corrupt(&path, "file does not start with a safetensors header"));
        }
        if header_bytes > file_bytes - 8 {
            return Err(truncated());
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact_at(&mut header, 8).map_err(from_io)?;
        // Deserializing also checks that the tensors follow each other without gaps and fit their shapes.
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| ModelError::corrupt(&path, format!("bad header: {error}")))?;
        let data_start = 8 + header_bytes;
        let expected_bytes = data_start + header.data_len() as u64;
        if expected_bytes != file_bytes {
            let reason = format!("file has {file_bytes} bytes where its header promises {expected_bytes}");
            return Err(ModelError::corrupt(&path, reason));
        }
        Ok(Self { path, file, data_start, header })
    }
}

/// Where a tensor lies.
pub struct Place<'a> {
    pub path: &'a Path,
    pub element_type: Dtype,
    pub shape: &'a [usize],
    /// In the file; as long as shape and element type say.
    pub bytes: std::ops::Range<usize>,
}

/// All tensors of a model folder.
pub struct Checkpoint {
    shards: Vec<Shard>,
    /// Shard of each tensor.
    shard_of: HashMap<String, usize>,
}

impl Checkpoint {
    /// Names of the files of the checkpoint in `dir`, relative to it: the index, if there is one, and the shards.
    pub fn file_names(dir: &Path) -> Result<Vec<String>> {
        let index_path = dir.join(INDEX_FILE);
        let pickle = || PICKLES.iter().find(|name| dir.join(name).exists());
        if let (false, false, Some(name)) = (dir.join(SINGLE_FILE).exists(), index_path.exists(), pickle()) {
            return Err(ModelError::Unsupported(format!(
                "\"{name}\" holds its weights as a Python pickle, which is a program; convert them to safetensors"
            )));
        }
        if dir.join(SINGLE_FILE).exists() || !index_path.exists() {
            return Ok(vec![SINGLE_FILE.to_owned()]);
        }
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: HashMap<String, String>,
        }
        let bytes = std::fs::read(&index_path).map_err(|error| ModelError::from_io(&index_path, error))?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| ModelError::corrupt(&index_path, error))?;
        let shards: BTreeSet<String> = index.weight_map.into_values().collect();
        Ok(std::iter::once(INDEX_FILE.to_owned()).chain(shards).collect())
    }

    /// Opens the checkpoint in `dir` and validates every header.
    ///
    /// Errors: `Missing`, `Unreadable`; `Corrupt` for a truncated file, a bad header, or a tensor in two shards.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut shards: Vec<Shard> = Vec::new();
        let mut shard_of = HashMap::new();
        for name in Self::file_names(dir)? {
            if name == INDEX_FILE {
                continue;
            }
            let shard = Shard::open(super::inside(dir, &name)?)?;
            for tensor in shard.header.offset_keys() {
                if shard_of.insert(tensor.clone(), shards.len()).is_some() {
                    return Err(ModelError::corrupt(&shard.path, format!("tensor \"{tensor}\" is in two files")));
                }
            }
            shards.push(shard);
        }
        Ok(Self { shards, shard_of })
    }

    /// Opens a checkpoint of one file, whatever its name. Errors: as for [`Checkpoint::open`].
    pub fn open_file(path: PathBuf) -> Result<Self> {
        let shard = Shard::open(path)?;
        let shard_of = shard.header.offset_keys().into_iter().map(|tensor| (tensor, 0)).collect();
        Ok(Self { shards: vec![shard], shard_of })
    }

    fn find(&self, name: &str) -> Option<(&Shard, &TensorInfo)> {
        let shard = self.shards.get(*self.shard_of.get(name)?)?;
        Some((shard, shard.header.info(name)?))
    }

    /// Whether there is a tensor with this name.
    pub fn contains(&self, name: &str) -> bool {
        self.shard_of.contains_key(name)
    }

    /// Name, element type and number of elements of every tensor.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Dtype, u64)> {
        self.shard_of.keys().filter_map(|name| {
            let (_, info) = self.find(name)?;
            Some((name.as_str(), info.dtype, info.shape.iter().map(|&n| n as u64).product()))
        })
    }

    /// Where the tensor lies, for those who map the files.
    pub fn place(&self, name: &str) -> Option<Place<'_>> {
        let (shard, info) = self.find(name)?;
        let (start, end) = info.data_offsets;
        let data_start = usize::try_from(shard.data_start).ok()?;
        let bytes = data_start.checked_add(start)?..data_start.checked_add(end)?;
        Some(Place { path: &shard.path, element_type: info.dtype, shape: &info.shape, bytes })
    }

    /// Bytes of all files of the checkpoint.
    pub fn size_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.data_start + shard.header.data_len() as u64).sum()
    }

    /// The file that holds the tensor, for messages; the first file when there is no such tensor.
    pub fn path_of(&self, name: &str) -> &Path {
        match (self.find(name), self.shards.first()) {
            (Some((shard, _)), _) | (None, Some(shard)) => &shard.path,
            (None, None) => Path::new(SINGLE_FILE),
        }
    }

    /// Checks that the tensor exists with exactly this shape and an element type that can be read as f32.
    ///
    /// Errors: `Corrupt` naming the tensor, for a missing tensor or another shape; `Unsupported` for another type.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        let Some((shard, info)) = self.find(name) else {
            return Err(ModelError::corrupt(self.path_of(name), format!("tensor \"{name}\" is missing")));
        };
        if info.shape != shape {
            let reason = format!("tensor \"{name}\" has shape {:?}, its configuration says {shape:?}", info.shape);
            return Err(ModelError::corrupt(&shard.path, reason));
        }
        match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => Err(ModelError::Unsupported(format!("tensor \"{name}\" has elements of type {other:?}"))),
        }
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.find(name)?.1.shape.as_slice())
    }

    /// Appends the tensor's elements to `values` as f32. Errors as [`Checkpoint::expect`], and `Corrupt` for an
    /// element that is not a finite number.
    pub fn read_f32(&self, name: &str, shape: &[usize], values: &mut Vec<f32>) -> Result<()> {
        self.read_part_f32(name, shape, 0..shape.iter().product(), values)
    }

    /// Like [`Checkpoint::read_f32`], some elements of the tensor only.
    pub fn read_part_f32(
        &self,
        name: &str,
        shape: &[usize],
        elements: std::ops::Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<()> {
        self.expect(name, shape)?;
        let Some((shard, info)) = self.find(name) else {
            return Err(ModelError::corrupt(self.path_of(name), format!("tensor \"{name}\" is missing")));
        };
        let element_bytes = info.dtype.bitsize().div_ceil(8);
        let (first, end) = info.data_offsets;
        let (start, end) = (first + elements.start * element_bytes, end.min(first + elements.end * element_bytes));
        let offset = shard.data_start + start as u64;
        values.reserve(end.saturating_sub(start) / element_bytes);
        // Piece by piece through a buffer that stays in the processor's cache.
        let mut buffer = [0; 1 << 16];
        let mut at = 0;
        while start + at < end {
            let piece = &mut buffer[..(1 << 16).min(end - start - at)];
            let from_io = |error| ModelError::from_io(&shard.path, error);
            shard.file.read_exact_at(piece, offset + at as u64).map_err(from_io)?;
            let first = values.len();
            match info.dtype {
                Dtype::F32 => values.extend(piece.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b))),
                half_type => append_half(half_type, piece, values),
            }
            // Not `any`, which stops at the first and is therefore not compiled to vector instructions.
            if !values[first..].iter().fold(true, |finite, value| finite & value.is_finite()) {
                let reason = format!("tensor \"{name}\" has an element that is not a finite number");
                return Err(ModelError::corrupt(&shard.path, reason));
            }
            at += piece.len();
        }
        Ok(())
    }
}

/// Appends the f16 or bf16 numbers in `bytes`.
fn append_half(kind: Dtype, bytes: &[u8], values: &mut Vec<f32>) {
    use half::slice::HalfBitsSliceExt;
    let raw: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b)).collect();
    let first = values.len();
    values.resize(first + raw.len(), 0.0);
    let target = &mut values[first..];
    match kind {
        Dtype::F16 => raw.reinterpret_cast::<half::f16>().convert_to_f32_slice(target),
        _ => raw.reinterpret_cast::<half::bf16>().convert_to_f32_slice(target),
    }
}
