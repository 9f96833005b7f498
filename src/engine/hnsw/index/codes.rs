//! Codes of several nodes, copied out of their pages.

use super::store::Span;

/// Some codes, one after the other. Filled by `Index::codes`, again and again: its memory is kept.
#[derive(Debug, Default, Clone)]
pub(super) struct CodeBatch {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
    /// Where the pieces of the codes are in the index, and where in `bytes` each begins.
    pub(super) spans: Vec<Span>,
    pub(super) starts: Vec<usize>,
}

impl CodeBatch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.spans.clear();
        self.starts.clear();
    }

    /// Makes room for the bytes of the pieces that were appended: they are the next code.
    pub(super) fn finish_one(&mut self) {
        let mut end = self.bytes.len();
        for span in self.spans.iter().skip(self.starts.len()) {
            self.starts.push(end);
            end += span.length_bytes;
        }
        self.bytes.resize(end, 0);
        self.ends.push(end);
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> &[u8] {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0),
            None => 0,
        };
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }
}
