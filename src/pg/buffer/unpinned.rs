//! Reading shared buffers without pinning them.
//!
//! A pin is two changes of a line of memory that all backends share, and keeps them from reading it meanwhile: for a page of
//! which a few hundred bytes are looked at, that is more work than looking. Instead the buffer's tag, which says whose block
//! it holds, is compared before the bytes are read and after. PostgreSQL changes the tag before it puts another block in, so
//! if it is the same, all that was read between was of the block; otherwise what was made of it is thrown away. That holds
//! for bytes that do not change while they are read ("stable"), as codes of nodes.
//!
//! Buffers are found where they were last time. The layout of a buffer's header is PostgreSQL's own affair; the part used
//! here is the same in 15 to 18, and is checked against pinned buffers before it is trusted.

use super::{bare, bytes, place, RecentBuffers, BLOCK_BYTES};
use pg_rag_engine::distance::prefetch;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{fence, AtomicU32, Ordering};

/// The first words of a buffer's header, 64 bytes apart. All of them may change at any time.
#[repr(C, align(64))]
pub(super) struct BufferHeader {
    /// Tablespace, database, file, fork, block.
    tag: [AtomicU32; 5],
    number: AtomicU32,
    state: AtomicU32,
}

const _: () = assert!(size_of::<BufferHeader>() == 64);

/// In `state`: the buffer holds all of its block.
const BM_VALID: u32 = 1 << 24;
/// How much is fetched ahead of what is read: what the first-level cache can take beside the rest.
const AHEAD_BYTES: usize = 4096;
const LEAST_AHEAD: usize = 2;
/// Pinned buffers that were as expected before others are read without a pin.
const ENOUGH: i32 = 8;

thread_local! {
    /// Pinned buffers whose header was as expected; negative if one was not.
    static KNOWN: Cell<i32> = const { Cell::new(0) };
}

/// A relation whose main fork is read without pins.
pub(super) struct Unpinned {
    /// Tablespace, database, file.
    file: [u32; 3],
}

impl Unpinned {
    /// None if the layout of headers is not known to be the expected one.
    #[inline]
    pub(super) fn of(relation: pg_sys::Relation) -> Option<Unpinned> {
        (KNOWN.get() >= ENOUGH).then(|| Unpinned { file: file_of(relation) })
    }

    /// Compares the header of a pinned buffer with what it should be.
    #[inline]
    pub(super) fn learn(relation: pg_sys::Relation, block: u32, buffer: pg_sys::Buffer) {
        let known = KNOWN.get();
        if buffer > 0 && (0..ENOUGH).contains(&known) {
            let header = header(buffer);
            let is_right = header.number.load(Ordering::Relaxed) == buffer as u32 - 1
                && header.holds(&file_of(relation), block)
                && header.state.load(Ordering::Relaxed) & BM_VALID != 0;
            KNOWN.set(if is_right { known + 1 } else { -1 });
        }
    }

    /// Calls `read` with each block of a group; gives those, as bits, that were not there or went away meanwhile.
    #[inline(always)]
    pub(super) fn read(
        &self,
        group: Range<usize>,
        recent: &RecentBuffers,
        ahead: &impl Fn(usize) -> (u32, usize, usize),
        is_written: &impl Fn(&[u8; BLOCK_BYTES]) -> bool,
        read: &mut impl FnMut(usize, &[u8; BLOCK_BYTES]),
    ) -> u128 {
        let fetch = |index: usize| {
            let (block, offset, length_bytes) = ahead(index);
            let buffer = recent.get(block);
            if buffer > 0 {
                prefetch(std::ptr::from_ref(header(buffer)).cast(), 64);
                // SAFETY: the address is computed, not read.
                prefetch(unsafe { bytes(buffer) }.cast::<u8>().wrapping_add(offset), length_bytes);
            }
        };
        let length_bytes = ahead(group.start).2;
        let distance = (AHEAD_BYTES / length_bytes.max(1)).max(LEAST_AHEAD);
        group.clone().take(distance).for_each(fetch);
        let mut missed = 0u128;
        for index in group.clone() {
            if index + distance < group.end {
                fetch(index + distance);
            }
            let (block, ..) = ahead(index);
            let buffer = recent.get(block);
            if !(buffer > 0 && self.read_one(buffer, block, is_written, |page| read(index, page))) {
                missed |= 1 << (index - group.start);
            }
        }
        // SAFETY: a counter of this process, which EXPLAIN (BUFFERS) shows.
        unsafe { pg_sys::pgBufferUsage.shared_blks_hit += (group.len() - missed.count_ones() as usize) as i64 };
        missed
    }

    /// Calls `read` with what a buffer holds; false if it does not hold the block, or has not all the time.
    #[inline(always)]
    fn read_one(
        &self,
        buffer: pg_sys::Buffer,
        block: u32,
        is_written: impl Fn(&[u8; BLOCK_BYTES]) -> bool,
        read: impl FnOnce(&[u8; BLOCK_BYTES]),
    ) -> bool {
        let header = header(buffer);
        if header.state.load(Ordering::Acquire) & BM_VALID == 0 || !header.holds(&self.file, block) {
            return false;
        }
        fence(Ordering::Acquire);
        // SAFETY: shared buffers stay mapped while the process lives. The block may be replaced by another while it is read:
        // then nothing that was read is used.
        let page = unsafe { &*bytes(buffer) };
        if !is_written(page) {
            return false;
        }
        fence(Ordering::Acquire);
        read(page);
        fence(Ordering::Acquire);
        header.holds(&self.file, block)
    }
}

impl BufferHeader {
    /// Whether the tag says that this is a block of a file's main fork.
    #[inline(always)]
    fn holds(&self, file: &[u32; 3], block: u32) -> bool {
        let [tablespace, database, number, fork, held] = &self.tag;
        let is = |word: &AtomicU32, value: u32| word.load(Ordering::Relaxed) == value;
        is(held, block)
            && is(number, file[2])
            && is(database, file[1])
            && is(tablespace, file[0])
            && is(fork, pg_sys::ForkNumber::MAIN_FORKNUM as u32)
    }
}

#[inline(always)]
fn header(buffer: pg_sys::Buffer) -> &'static BufferHeader {
    // SAFETY: a number that PostgreSQL gave for a shared buffer; headers are never freed, and only read as atomics.
    unsafe { &*bare::BufferDescriptors.add(buffer as usize - 1) }
}

#[inline(always)]
fn file_of(relation: pg_sys::Relation) -> [u32; 3] {
    let place = place(relation);
    #[cfg(feature = "pg15")]
    return [place.spcNode.to_u32(), place.dbNode.to_u32(), place.relNode.to_u32()];
    #[cfg(not(feature = "pg15"))]
    return [place.spcOid.to_u32(), place.dbOid.to_u32(), place.relNumber.to_u32()];
}
