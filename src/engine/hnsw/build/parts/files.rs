//! Temporary files of a build in parts, and their twin in memory.

/// Makes temporary files, which are gone when they are dropped.
pub trait TempFiles {
    type File: TempFile<Error = Self::Error>;
    type Error;

    fn create(&mut self) -> Result<Self::File, Self::Error>;
}

/// A file that grows at its end and is read anywhere.
pub trait TempFile {
    type Error;

    fn append(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Fills `into` with what begins at `offset_bytes`. All of it was appended before.
    fn read_at(&mut self, offset_bytes: u64, into: &mut [u8]) -> Result<(), Self::Error>;

    fn len_bytes(&self) -> u64;
}

/// Files in memory, for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryFiles;

/// What was read is not in the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("temporary file ends early")]
pub struct EndOfFile;

impl TempFiles for MemoryFiles {
    type File = Vec<u8>;
    type Error = EndOfFile;

    fn create(&mut self) -> Result<Vec<u8>, EndOfFile> {
        Ok(Vec::new())
    }
}

impl TempFile for Vec<u8> {
    type Error = EndOfFile;

    fn append(&mut self, bytes: &[u8]) -> Result<(), EndOfFile> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn read_at(&mut self, offset_bytes: u64, into: &mut [u8]) -> Result<(), EndOfFile> {
        let from = usize::try_from(offset_bytes).ok().and_then(|offset| self.get(offset..)?.get(..into.len()));
        into.copy_from_slice(from.ok_or(EndOfFile)?);
        Ok(())
    }

    fn len_bytes(&self) -> u64 {
        self.len() as u64
    }
}
