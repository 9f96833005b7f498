//! What the index needs of its storage: the blocks of one fork.

use crate::hnsw::page::{Page, PageError};

/// The most pages that one change may touch, as generic WAL allows.
pub const MAX_CHANGED_PAGES: usize = 4;

/// A run of bytes in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub block: u32,
    pub offset: usize,
    pub length_bytes: usize,
}

/// The blocks of an index. New ones are all zero.
pub trait PageStore {
    type Error: From<PageError>;

    /// Calls `read` with a block, which nobody changes meanwhile. `read` calls nothing of the store.
    fn read<R>(&mut self, block: u32, read: impl FnOnce(&Page) -> R) -> Result<R, Self::Error>;

    /// Calls `read` with the index of each span and its block: bytes that are written once, so that no lock is needed
    /// to read them. The spans are what will be looked at, so that they can be fetched ahead. `read` may be called more
    /// than once with an index, with any bytes, and in any order; what counts is the last time, when the bytes are
    /// right. It neither calls the store nor panics, and keeps nothing that it allocates.
    fn read_stable(&mut self, spans: &[Span], read: impl FnMut(usize, &Page)) -> Result<(), Self::Error>;

    /// Changes up to [`MAX_CHANGED_PAGES`] blocks, which are given in ascending order, each once, as one: all of it
    /// happens, also in a crash, or nothing; nothing happens if `change` fails. Nobody reads or changes them meanwhile.
    fn change<R>(
        &mut self,
        blocks: &[u32],
        change: impl FnOnce(&mut [&mut Page]) -> Result<R, PageError>,
    ) -> Result<R, Self::Error>;

    /// Makes the fork at least so many blocks long. The caller holds no page.
    fn extend_to(&mut self, blocks: u32) -> Result<(), Self::Error>;

    /// Waits until all insertions that are under way now have ended.
    fn drain_inserts(&mut self) -> Result<(), Self::Error>;

    /// Ends with an error if somebody asked for that. Called in every long loop, with no page held.
    fn check_interrupts(&mut self) -> Result<(), Self::Error>;
}
