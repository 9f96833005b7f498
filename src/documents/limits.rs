//! How much of everything one document may take, and the guard that counts it.
//!
//! Every loop whose length a document decides calls [`Guard::step`]; everything that is unpacked or written is counted
//! before memory is taken for it. So the work on any document ends at a limit that is known beforehand, or with the
//! request's deadline, or when the client goes away, whichever comes first.

use crate::error::{DocumentError, Result};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The limits of one extraction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the document. Unlimited unless the caller, who holds them, says what he bears.
    pub input_bytes: usize,
    /// Bytes of text (UTF-8), of all pages together.
    pub output_bytes: usize,
    pub pages: usize,
    /// Bytes that compressed parts unpack to, together.
    pub unpacked_bytes: u64,
    /// Unpacked bytes for each byte of the document; counts from [`RATIO_FREE_BYTES`] on.
    pub unpack_ratio: u64,
    /// Files in an archive.
    pub archive_files: usize,
    /// Nesting of XML elements.
    pub xml_depth: usize,
    pub time: Duration,
}

/// Small documents may unpack to this whatever the ratio: a short text of one letter is not an attack.
pub const RATIO_FREE_BYTES: u64 = 16 * 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            input_bytes: usize::MAX,
            output_bytes: 64 * 1024 * 1024,
            pages: 20_000,
            unpacked_bytes: 512 * 1024 * 1024,
            unpack_ratio: 100,
            archive_files: 65_535,
            xml_depth: 256,
            time: Duration::from_secs(60),
        }
    }
}

/// Steps between two looks at the clock.
const STEPS_PER_LOOK: u32 = 256;

/// Counts what one extraction takes.
pub struct Guard<'a> {
    pub limits: &'a Limits,
    deadline: Instant,
    cancelled: &'a dyn Fn() -> bool,
    steps: Cell<u32>,
    unpacked: Cell<u64>,
    unpack_limit: u64,
    written: Cell<usize>,
}

impl<'a> Guard<'a> {
    /// The clock starts here. Refuses a document that is too large.
    pub fn start(limits: &'a Limits, input_bytes: usize, cancelled: &'a dyn Fn() -> bool) -> Result<Self> {
        if input_bytes > limits.input_bytes {
            return Err(DocumentError::InputLimit { bytes: input_bytes, limit: limits.input_bytes });
        }
        let by_ratio = (input_bytes as u64).saturating_mul(limits.unpack_ratio).max(RATIO_FREE_BYTES);
        let guard = Self {
            limits,
            deadline: Instant::now() + limits.time,
            cancelled,
            steps: Cell::new(0),
            unpacked: Cell::new(0),
            unpack_limit: limits.unpacked_bytes.min(by_ratio),
            written: Cell::new(0),
        };
        guard.look()?;
        Ok(guard)
    }

    /// One turn of a loop; looks at the clock now and then.
    #[inline]
    pub fn step(&self) -> Result<()> {
        let steps = self.steps.get() + 1;
        if steps < STEPS_PER_LOOK {
            self.steps.set(steps);
            return Ok(());
        }
        self.steps.set(0);
        self.look()
    }

    /// Looks at the clock and for a cancel.
    pub fn look(&self) -> Result<()> {
        if (self.cancelled)() {
            return Err(DocumentError::Cancelled);
        }
        if Instant::now() >= self.deadline {
            return Err(DocumentError::TimeLimit { limit: self.limits.time });
        }
        Ok(())
    }

    /// Bytes that may still be unpacked.
    pub fn unpack_room(&self) -> u64 {
        self.unpack_limit - self.unpacked.get()
    }

    /// Counts unpacked bytes.
    pub fn unpack(&self, bytes: u64) -> Result<()> {
        if bytes > self.unpack_room() {
            return Err(DocumentError::UnpackLimit { limit: self.unpack_limit });
        }
        self.unpacked.set(self.unpacked.get() + bytes);
        self.step()
    }

    /// Counts text that is about to be written.
    pub fn write(&self, bytes: usize) -> Result<()> {
        let written = self.written.get().saturating_add(bytes);
        if written > self.limits.output_bytes {
            return Err(DocumentError::OutputLimit { limit: self.limits.output_bytes });
        }
        self.written.set(written);
        self.step()
    }

    /// Refuses a page beyond the limit; `count` includes it.
    pub fn page(&self, count: usize) -> Result<()> {
        if count > self.limits.pages {
            return Err(DocumentError::PageLimit { limit: self.limits.pages });
        }
        self.look()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_an_error_of_its_own() {
        let limits = Limits { input_bytes: 10, output_bytes: 5, pages: 2, ..Limits::default() };
        let guard = |bytes| Guard::start(&limits, bytes, &|| false);
        assert!(matches!(guard(11), Err(DocumentError::InputLimit { bytes: 11, limit: 10 })));
        let guard = guard(10).unwrap();
        guard.write(5).unwrap();
        assert_eq!(guard.write(1), Err(DocumentError::OutputLimit { limit: 5 }));
        guard.page(2).unwrap();
        assert_eq!(guard.page(3), Err(DocumentError::PageLimit { limit: 2 }));
        guard.unpack(RATIO_FREE_BYTES).unwrap();
        assert_eq!(guard.unpack(1), Err(DocumentError::UnpackLimit { limit: RATIO_FREE_BYTES }));
    }

    #[test]
    fn a_loop_ends_at_the_deadline_and_at_a_cancel() {
        let limits = Limits { time: Duration::from_millis(5), ..Limits::default() };
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let error = std::iter::repeat_with(|| guard.step()).find_map(Result::err);
        assert_eq!(error, Some(DocumentError::TimeLimit { limit: limits.time }));
        let limits = Limits::default();
        let calls = Cell::new(0);
        let cancelled = || {
            calls.set(calls.get() + 1);
            calls.get() > 3
        };
        let guard = Guard::start(&limits, 1, &cancelled).unwrap();
        let error = std::iter::repeat_with(|| guard.step()).find_map(Result::err);
        assert_eq!(error, Some(DocumentError::Cancelled));
    }
}
