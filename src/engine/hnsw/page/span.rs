//! Where codes lie: records of one stride in spans of one or more pages, whose payloads count as one string of bytes.
//!
//! With one page to a span no record crosses a page, which holds for all usual codes. Longer ones, for which a page
//! would be left half empty or which exceed a page, share several pages and are read in pieces. Codes of variable
//! length use the same arithmetic with chunks of 64 bytes as records, and go on from page to page.

use super::divide::Divisor;
use super::records::Address;
use super::{PAYLOAD_BYTES, PAYLOAD_OFFSET};

/// The most pages in a span.
pub const MAX_SPAN_PAGES: usize = 16;
/// The longest code: 16,000 f32 elements and as much again.
pub const MAX_CODE_BYTES: usize = MAX_SPAN_PAGES * PAYLOAD_BYTES;
/// The unit in which codes of variable length are placed.
pub const CHUNK_BYTES: usize = 64;
/// The part of a span's bytes that may be left over before a longer span is tried: 1 in this many.
const WASTE_DIVISOR: usize = 8;

/// The arithmetic of the code class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeSpans {
    stride_bytes: usize,
    span_pages: u32,
    per_span: Divisor,
    /// Bytes of a page that hold codes: the payload, or its whole chunks.
    page_bytes: usize,
}

impl CodeSpans {
    /// Codes of one length, between 1 and [`MAX_CODE_BYTES`].
    pub(super) fn fixed(code_bytes: usize) -> Self {
        // Factors beside a code are 4-byte values: keep them aligned.
        let stride_bytes = code_bytes.next_multiple_of(4);
        let waste = |pages: usize| {
            let span = pages * PAYLOAD_BYTES;
            (span / stride_bytes > 0).then_some((span % stride_bytes, span))
        };
        let mut best = MAX_SPAN_PAGES;
        for pages in 1..=MAX_SPAN_PAGES {
            let (Some((left, span)), best_waste) = (waste(pages), waste(best)) else { continue };
            if left * WASTE_DIVISOR <= span {
                best = pages;
                break;
            }
            // Shares left over, compared without a division; the shorter span where they are equal.
            let better = best_waste.is_none_or(|(best_left, best_span)| {
                left * best_span < best_left * span || (left * best_span == best_left * span && pages < best)
            });
            if better {
                best = pages;
            }
        }
        CodeSpans {
            stride_bytes,
            span_pages: best as u32,
            per_span: Divisor::new((best * PAYLOAD_BYTES / stride_bytes) as u32),
            page_bytes: PAYLOAD_BYTES,
        }
    }

    /// Codes in chunks.
    pub(super) fn chunks() -> Self {
        let per_page = PAYLOAD_BYTES / CHUNK_BYTES;
        CodeSpans {
            stride_bytes: CHUNK_BYTES,
            span_pages: 1,
            per_span: Divisor::new(per_page as u32),
            page_bytes: per_page * CHUNK_BYTES,
        }
    }

    pub fn stride_bytes(self) -> usize {
        self.stride_bytes
    }

    /// Pages that `per_span` records share; with 1, no fixed-length code crosses a page.
    pub fn span_pages(self) -> u32 {
        self.span_pages
    }

    pub fn per_span(self) -> u32 {
        self.per_span.get()
    }

    /// The pages that this many records take, whole spans.
    pub fn pages(self, count: u32) -> u64 {
        u64::from(count.div_ceil(self.per_span.get())) * u64::from(self.span_pages)
    }

    /// Where a record begins. An ordinal so high that its page has no number saturates, and no extent has that page.
    #[inline(always)]
    pub fn address(self, record: u32) -> Address {
        let (span, slot) = self.per_span.divide(record);
        let within = slot as usize * self.stride_bytes;
        if self.span_pages == 1 {
            return Address { page_index: span, offset: PAYLOAD_OFFSET + within };
        }
        // Chunks have spans of one page: here a page's whole payload holds codes.
        let page_index = span.saturating_mul(self.span_pages).saturating_add((within / PAYLOAD_BYTES) as u32);
        Address { page_index, offset: PAYLOAD_OFFSET + within % PAYLOAD_BYTES }
    }

    /// The parts of pages that hold `length_bytes` from the beginning of a record on.
    pub fn pieces(self, record: u32, length_bytes: usize) -> Pieces {
        let Address { page_index, offset } = self.address(record);
        Pieces { page_index, offset, left_bytes: length_bytes, end: PAYLOAD_OFFSET + self.page_bytes }
    }
}

/// A run of bytes within one page of the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    pub page_index: u32,
    pub offset: usize,
    pub length_bytes: usize,
}

/// The pieces of one code, in order.
#[derive(Debug, Clone)]
pub struct Pieces {
    page_index: u32,
    offset: usize,
    left_bytes: usize,
    end: usize,
}

impl Iterator for Pieces {
    type Item = Piece;

    #[inline]
    fn next(&mut self) -> Option<Piece> {
        if self.left_bytes == 0 {
            return None;
        }
        let length_bytes = self.left_bytes.min(self.end - self.offset);
        let piece = Piece { page_index: self.page_index, offset: self.offset, length_bytes };
        self.left_bytes -= length_bytes;
        self.page_index = self.page_index.saturating_add(1);
        self.offset = PAYLOAD_OFFSET;
        Some(piece)
    }
}
