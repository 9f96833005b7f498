//! Writing a GGUF file, tensor by tensor.
//!
//! A file appears under its name whole and on disk, or not at all: it is written under another name, which no reader looks
//! for, flushed, and renamed. A writer that is dropped before takes its file along, so nothing is left of an attempt that
//! failed or was cancelled; what a killed process leaves is removed by [`remove_leftovers`].
//!
//! The name contains the beginning of the hash of the contents: other contents never replace a file that somebody may
//! have registered, and equal ones may.

use super::metadata::{put_text, Metadata};
use super::TensorType;
use crate::error::{ModelError, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where tensors begin is a multiple of this.
const ALIGNMENT: u64 = 32;

/// Ending of files that are being written.
const UNFINISHED: &str = ".unfinished";

/// Digits of the hash in a file's name.
const HASH_DIGITS: usize = 16;

/// Longest name that a model's file may be called after, in bytes.
const MOST_NAME_BYTES: usize = 120;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub name: String,
    pub dimensions: Vec<u64>,
    pub kind: TensorType,
}

impl Planned {
    pub fn bytes(&self) -> u64 {
        self.kind.bytes(self.dimensions.iter().product())
    }
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub path: PathBuf,
    pub sha256: String,
    pub bytes: u64,
}

/// A file in the making. Tensors are written in the order of the plan, each followed by [`GgufWriter::end_tensor`].
pub struct GgufWriter {
    dir: PathBuf,
    name: String,
    unfinished: PathBuf,
    output: BufWriter<File>,
    hasher: Sha256,
    written: u64,
    /// Where each tensor that is not written yet must end, the next one last.
    ends: Vec<u64>,
}

impl GgufWriter {
    /// Begins a file for the model `name` in `dir`, which is created if it is not there.
    ///
    /// Errors: `Unwritable`; `InvalidArgument` for a name that is too long.
    pub fn create(dir: &Path, name: &str, metadata: &Metadata, tensors: &[Planned]) -> Result<Self> {
        let name = file_stem(name)?;
        std::fs::create_dir_all(dir).map_err(|error| unwritable(dir, error))?;
        static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
        let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        let unfinished = dir.join(format!("{name}-{}-{attempt}{UNFINISHED}", std::process::id()));
        let file = File::options().write(true).create_new(true).open(&unfinished);
        let output = BufWriter::with_capacity(1 << 18, file.map_err(|error| unwritable(&unfinished, error))?);
        let (dir, hasher) = (dir.to_owned(), Sha256::new());
        let mut writer = Self { dir, name, unfinished, output, hasher, written: 0, ends: Vec::new() };
        let mut metadata = metadata.clone();
        metadata.remove("general.alignment");
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend((metadata.count() as u64).to_le_bytes());
        metadata.put(&mut bytes);
        let mut offset = 0_u64;
        for tensor in tensors {
            put_text(&mut bytes, &tensor.name);
            bytes.extend((tensor.dimensions.len() as u32).to_le_bytes());
            tensor.dimensions.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
            bytes.extend(tensor.kind.number().to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            writer.ends.push(offset + tensor.bytes());
            offset = (offset + tensor.bytes()).next_multiple_of(ALIGNMENT);
        }
        bytes.resize((bytes.len() as u64).next_multiple_of(ALIGNMENT) as usize, 0);
        let start = bytes.len() as u64;
        writer.ends.iter_mut().for_each(|end| *end += start);
        writer.ends.reverse();
        writer.write(&bytes)?;
        Ok(writer)
    }

    /// Writes bytes of the present tensor.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.output.write_all(bytes).map_err(|error| unwritable(&self.unfinished, error))
    }

    /// Ends the present tensor. `Internal` if it does not have the length that was planned.
    pub fn end_tensor(&mut self) -> Result<()> {
        if self.ends.pop() != Some(self.written) {
            return Err(ModelError::Internal("a tensor was not written in the planned length".into()));
        }
        let padding = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write(&[0; ALIGNMENT as usize][..padding as usize])
    }

    /// Makes the file appear.
    pub fn finish(mut self) -> Result<Written> {
        if !self.ends.is_empty() {
            return Err(ModelError::Internal("not all tensors were written".into()));
        }
        self.output.flush().map_err(|error| unwritable(&self.unfinished, error))?;
        self.output.get_ref().sync_all().map_err(|error| unwritable(&self.unfinished, error))?;
        let digest = std::mem::take(&mut self.hasher).finalize();
        let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.dir.join(format!("{}-{}.gguf", self.name, &sha256[..HASH_DIGITS]));
        std::fs::rename(&self.unfinished, &path).map_err(|error| unwritable(&path, error))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(|error| unwritable(&self.dir, error))?;
        Ok(Written { path, sha256, bytes: self.written })
    }
}

impl Drop for GgufWriter {
    fn drop(&mut self) {
        // After the renaming there is nothing under this name. What cannot be removed now is a leftover.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}

fn unwritable(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Unwritable { path: path.to_owned(), source }
}

/// Removes what processes that were killed have left in `dir`. Nobody else may be writing there.
pub fn remove_leftovers(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.to_string_lossy().ends_with(UNFINISHED) {
            // One that stays takes room, and does no other harm.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The name of a model as the beginning of a file's name: what is not a letter, digit, `.`, `_` or `-` becomes the hex of
/// its bytes, so different names stay different.
fn file_stem(name: &str) -> Result<String> {
    let mut stem = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => stem.push(char::from(byte)),
            b'.' if !stem.is_empty() => stem.push('.'),
            byte => stem.push_str(&format!("%{byte:02X}")),
        }
    }
    if stem.is_empty() || stem.len() > MOST_NAME_BYTES {
        return Err(ModelError::InvalidArgument(format!("name \"{name}\" of a model is empty or too long for a file")));
    }
    Ok(stem)
}
