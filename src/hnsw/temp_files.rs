//! The temporary files of a build in parts: PostgreSQL's, so that `temp_file_limit`, `log_temp_files` and `temp_tablespaces`
//! hold, and an error or a crash leaves none behind.

#![allow(unsafe_code)]

use super::errors::IndexError;
use pg_rag_engine::hnsw::build::parts::files::{TempFile, TempFiles};
use pgrx::pg_sys;

/// PostgreSQL divides files into segments of so many bytes.
const SEGMENT_BYTES: u64 = 1 << 30;

/// Makes files in a memory context that lives as long as they do.
pub struct BufFiles {
    context: pg_sys::MemoryContext,
}

impl BufFiles {
    /// Files that live at most as long as the current memory context.
    pub fn in_current_context() -> Self {
        // SAFETY: a pointer.
        BufFiles { context: unsafe { pg_sys::CurrentMemoryContext } }
    }
}

/// A temporary file.
pub struct BufFile {
    file: *mut pg_sys::BufFile,
    len_bytes: u64,
    /// Where the next read or write would be.
    position: u64,
}

impl TempFiles for BufFiles {
    type File = BufFile;
    type Error = IndexError;

    fn create(&mut self) -> Result<BufFile, IndexError> {
        // SAFETY: the context lives; it is the current one only for the call.
        let file = unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.context);
            let file = pg_sys::BufFileCreateTemp(false);
            pg_sys::MemoryContextSwitchTo(before);
            file
        };
        Ok(BufFile { file, len_bytes: 0, position: 0 })
    }
}

impl BufFile {
    fn seek(&mut self, offset: u64) -> Result<(), IndexError> {
        if self.position == offset {
            return Ok(());
        }
        let (segment, within) = (offset / SEGMENT_BYTES, offset % SEGMENT_BYTES);
        // SAFETY: the file is open. 0 is SEEK_SET.
        let failed = unsafe { pg_sys::BufFileSeek(self.file, segment as i32, within as pg_sys::off_t, 0) } != 0;
        self.position = offset;
        if failed {
            return Err(IndexError::TempFile);
        }
        Ok(())
    }
}

impl TempFile for BufFile {
    type Error = IndexError;

    fn append(&mut self, bytes: &[u8]) -> Result<(), IndexError> {
        self.seek(self.len_bytes)?;
        // SAFETY: the file is open; PostgreSQL only reads the bytes.
        unsafe { pg_sys::BufFileWrite(self.file, bytes.as_ptr().cast_mut().cast(), bytes.len()) };
        self.len_bytes += bytes.len() as u64;
        self.position = self.len_bytes;
        Ok(())
    }

    fn read_at(&mut self, offset_bytes: u64, into: &mut [u8]) -> Result<(), IndexError> {
        self.seek(offset_bytes)?;
        // SAFETY: the file is open, and there is room for so many bytes.
        let read = unsafe { pg_sys::BufFileRead(self.file, into.as_mut_ptr().cast(), into.len()) };
        self.position += read as u64;
        if read < into.len() {
            return Err(IndexError::TempFile);
        }
        Ok(())
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
}

impl Drop for BufFile {
    fn drop(&mut self) {
        // While an error unwinds, the transaction's end closes everything.
        if !std::thread::panicking() {
            // SAFETY: the file is open, and not used after this.
            unsafe { pg_sys::BufFileClose(self.file) };
        }
    }
}
