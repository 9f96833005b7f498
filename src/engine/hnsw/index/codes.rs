//! Codes of several nodes, copied out of their pages.

/// Some codes, one after the other.
#[derive(Debug, Default, Clone)]
pub(super) struct CodeBatch {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
}

impl CodeBatch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Ends the code whose bytes were appended.
    pub(super) fn finish_one(&mut self) {
        self.ends.push(self.bytes.len());
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
