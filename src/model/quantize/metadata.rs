//! The metadata of a GGUF file to be written: keys with values as the bytes that stand for them, type first.
//!
//! Values of another file are taken over as they are, so that what this version does not know is kept. Written by
//! [`super::writer`], filled by the sources.

use crate::error::{ModelError, Result};
use crate::source::gguf::Header;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Numbers of the types of values.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Keys in the order in which they are written.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(String, Vec<u8>)>,
}

impl Metadata {
    /// All that the file with this header says.
    pub fn read(path: &Path, header: &Header) -> Result<Self> {
        let from_io = |error| ModelError::from_io(path, error);
        let file = File::open(path).map_err(from_io)?;
        let mut metadata = Self::default();
        for (key, range) in &header.entries {
            // The header was checked against the length of the file.
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start).map_err(from_io)?;
            metadata.entries.push((key.clone(), bytes));
        }
        Ok(metadata)
    }

    pub fn contains(&self, key: &str) -> bool {
        self.entries.iter().any(|(known, _)| known == key)
    }

    pub fn remove(&mut self, key: &str) {
        self.entries.retain(|(known, _)| known != key);
    }

    fn set(&mut self, key: &str, kind: u32, value: &[u8]) {
        let bytes = [&kind.to_le_bytes()[..], value].concat();
        match self.entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = bytes,
            None => self.entries.push((key.to_owned(), bytes)),
        }
    }

    fn set_array(&mut self, key: &str, kind: u32, count: usize, items: &[u8]) {
        let head = [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes()[..]].concat();
        self.set(key, ARRAY, &[&head, items].concat());
    }

    pub fn set_u32(&mut self, key: &str, value: u32) {
        self.set(key, U32, &value.to_le_bytes());
    }

    pub fn set_f32(&mut self, key: &str, value: f32) {
        self.set(key, F32, &value.to_le_bytes());
    }

    pub fn set_bool(&mut self, key: &str, value: bool) {
        self.set(key, BOOL, &[u8::from(value)]);
    }

    pub fn set_text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        put_text(&mut bytes, value);
        self.set(key, TEXT, &bytes);
    }

    pub fn set_texts(&mut self, key: &str, values: &[String]) {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| put_text(&mut bytes, value));
        self.set_array(key, TEXT, values.len(), &bytes);
    }

    pub fn set_i32s(&mut self, key: &str, values: &[i32]) {
        self.set_array(
            key,
            I32,
            values.len(),
            &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>(),
        );
    }

    pub fn set_f32s(&mut self, key: &str, values: &[f32]) {
        self.set_array(
            key,
            F32,
            values.len(),
            &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>(),
        );
    }

    pub fn set_bools(&mut self, key: &str, values: &[bool]) {
        self.set_array(key, BOOL, values.len(), &values.iter().map(|value| u8::from(*value)).collect::<Vec<_>>());
    }

    /// Number of keys.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Appends the metadata as they are in a file.
    pub fn put(&self, bytes: &mut Vec<u8>) {
        for (key, value) in &self.entries {
            put_text(bytes, key);
            bytes.extend_from_slice(value);
        }
    }
}

/// Appends a text with its length.
pub fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
