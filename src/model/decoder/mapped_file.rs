//! A model file mapped into memory, so that processes share its pages and loading does not copy it.
#![allow(unsafe_code)]

use crate::error::{ModelError, Result};
use std::fs::File;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file.
///
/// Models are immutable: a new version comes under a new name or by renaming over the old one. Whoever truncates a
/// mapped file in place makes the server fail with SIGBUS, and the supervisor starts another.
pub struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps the whole file, read only. Errors: `Missing`, `Unreadable`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| ModelError::from_io(path, error))?;
        // SAFETY: the mapping is private and read only. That nobody changes the file is the invariant of model files
        // above; a change of bytes in place would give wrong numbers, since nothing but numbers is read from it later.
        let map = unsafe { memmap2::Mmap::map(&file) };
        map.map(Self).map_err(|error| ModelError::from_io(path, error))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
