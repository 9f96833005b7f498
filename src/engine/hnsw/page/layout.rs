//! [`Layout`]: every stride, count per page and address of an index, computed once from its shape.
//!
//! A relation's cache keeps one. All of it follows from the metapage, which repeats the strides so that two releases
//! that disagree notice.

use super::error::LayoutError;
use super::keys::KeyLayout;
use super::node::{NODE_CODE_BYTES, NODE_HEAD_BYTES};
use super::records::{Address, Records};
use super::span::{CodeSpans, Pieces, CHUNK_BYTES, MAX_CODE_BYTES};
use super::tids::CHUNK_RECORD_BYTES;
use super::upper::UPPER_HEAD_BYTES;
use super::PAYLOAD_BYTES;

/// The range of m, as pgvector's.
pub const MIN_M: u16 = 2;
pub const MAX_M: u16 = 100;
/// The most dimensions of any type (sparsevec's); each type has its own limit beside.
pub const MAX_DIMENSIONS: u32 = crate::sparse::MAX_DIMENSIONS as u32;

const ID_BYTES: usize = 4;
// With the largest m a page holds several records of each class, and counts fit their bytes.
const _: () = assert!(NODE_HEAD_BYTES + NODE_CODE_BYTES + 2 * MAX_M as usize * ID_BYTES <= PAYLOAD_BYTES / 4);
const _: () = assert!(UPPER_HEAD_BYTES + MAX_M as usize * ID_BYTES <= PAYLOAD_BYTES / 4);
const _: () = assert!(2 * MAX_M <= u8::MAX as u16);

/// How long the codes of an index are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeLength {
    /// All codes have this many bytes.
    Fixed(u32),
    /// Up to this many; the node record says how many.
    Variable { max_bytes: u32 },
}

impl CodeLength {
    /// The bytes of the longest code.
    pub const fn max_bytes(self) -> u32 {
        match self {
            CodeLength::Fixed(bytes) | CodeLength::Variable { max_bytes: bytes } => bytes,
        }
    }
}

/// Where everything lies in an index of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    dimensions: u32,
    m: u16,
    code_length: CodeLength,
    node: Records,
    upper: Records,
    codes: CodeSpans,
    keys: KeyLayout,
}

/// Tid chunks are the same in every index.
pub(super) const TIDS: Records = Records::new(CHUNK_RECORD_BYTES);

impl Layout {
    /// The layout of an index over vectors of `dimensions`, with codes of `code_length`, lists of `m` neighbours (2m at
    /// level 0) and filter keys of `key_bytes` each.
    pub fn new(dimensions: u32, code_length: CodeLength, m: u16, key_bytes: &[u8]) -> Result<Self, LayoutError> {
        if dimensions == 0 || dimensions > MAX_DIMENSIONS {
            return Err(LayoutError::Dimensions { found: dimensions, limit: MAX_DIMENSIONS });
        }
        if !(MIN_M..=MAX_M).contains(&m) {
            return Err(LayoutError::M { found: m, limit: MAX_M });
        }
        let code_bytes = code_length.max_bytes();
        if code_bytes == 0 || code_bytes as usize > MAX_CODE_BYTES {
            return Err(LayoutError::CodeBytes { found: code_bytes, limit: MAX_CODE_BYTES as u32 });
        }
        let (codes, place_bytes) = match code_length {
            CodeLength::Fixed(bytes) => (CodeSpans::fixed(bytes as usize), 0),
            CodeLength::Variable { .. } => (CodeSpans::chunks(), NODE_CODE_BYTES),
        };
        let m_ids = usize::from(m) * ID_BYTES;
        Ok(Layout {
            dimensions,
            m,
            code_length,
            node: Records::new(NODE_HEAD_BYTES + place_bytes + 2 * m_ids),
            upper: Records::new(UPPER_HEAD_BYTES + m_ids),
            codes,
            keys: KeyLayout::new(key_bytes)?,
        })
    }

    pub const fn dimensions(&self) -> u32 {
        self.dimensions
    }

    pub const fn m(&self) -> u16 {
        self.m
    }

    pub const fn code_length(&self) -> CodeLength {
        self.code_length
    }

    /// The most neighbours of a node at a level: 2m at level 0, m above.
    #[inline(always)]
    pub const fn max_neighbours(&self, level: u8) -> usize {
        if level == 0 {
            2 * self.m as usize
        } else {
            self.m as usize
        }
    }

    /// Where the level-0 list begins in a node record.
    #[inline(always)]
    pub const fn list_offset(&self) -> usize {
        match self.code_length {
            CodeLength::Fixed(_) => NODE_HEAD_BYTES,
            CodeLength::Variable { .. } => NODE_HEAD_BYTES + NODE_CODE_BYTES,
        }
    }

    /// Node records, by ordinal.
    #[inline(always)]
    pub const fn nodes(&self) -> Records {
        self.node
    }

    /// Upper records.
    #[inline(always)]
    pub const fn uppers(&self) -> Records {
        self.upper
    }

    /// Chunks of further heap tids.
    pub const fn tids(&self) -> Records {
        TIDS
    }

    /// Codes; with variable codes, their chunks.
    #[inline(always)]
    pub const fn codes(&self) -> CodeSpans {
        self.codes
    }

    pub const fn keys(&self) -> &KeyLayout {
        &self.keys
    }

    /// Whether a code may lie on more than one page, so that it has to be put together to be read.
    #[inline(always)]
    pub fn codes_cross_pages(&self) -> bool {
        self.codes.span_pages() > 1 || matches!(self.code_length, CodeLength::Variable { .. })
    }

    /// Whether the node record says where its code is.
    #[inline(always)]
    pub const fn codes_are_variable(&self) -> bool {
        matches!(self.code_length, CodeLength::Variable { .. })
    }

    /// Where the code of a node begins, if codes are of fixed length; all of it, if they do not cross pages.
    #[inline(always)]
    pub fn code_address(&self, ordinal: u32) -> Address {
        self.codes.address(ordinal)
    }

    /// The pieces of a fixed-length code.
    pub fn code_pieces(&self, ordinal: u32) -> Pieces {
        self.codes.pieces(ordinal, self.code_length.max_bytes() as usize)
    }

    /// The pieces of a variable-length code.
    pub fn chunk_pieces(&self, first_chunk: u32, code_bytes: u32) -> Pieces {
        self.codes.pieces(first_chunk, code_bytes as usize)
    }

    /// The chunks that a variable-length code takes.
    pub const fn chunks(code_bytes: u32) -> u32 {
        code_bytes.div_ceil(CHUNK_BYTES as u32)
    }
}
