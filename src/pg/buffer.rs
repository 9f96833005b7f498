//! Blocks of a relation in shared buffers, several at a time behind one guard.
//!
//! Every function of PostgreSQL that pgrx binds runs behind a `sigsetjmp` of its own, which costs as much as finding a
//! buffer. Here the functions are declared a second time, bare, and called in loops whose frames hold nothing to drop, each
//! loop behind one guard: an error of PostgreSQL leaves the loop and is raised again as pgrx raises all of them. Pins and
//! locks that an error leaves are released with the transaction.

mod unpinned;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use std::ops::Range;
use unpinned::Unpinned;

mod bare {
    use pgrx::pg_sys::{BlockNumber, Buffer, BufferAccessStrategy, ForkNumber, ReadBufferMode, Relation};

    #[cfg(feature = "pg15")]
    pub(super) type RelationPlace = pgrx::pg_sys::RelFileNode;
    #[cfg(not(feature = "pg15"))]
    pub(super) type RelationPlace = pgrx::pg_sys::RelFileLocator;

    extern "C-unwind" {
        pub(super) fn ReadBufferExtended(
            relation: Relation,
            fork: ForkNumber::Type,
            block: BlockNumber,
            mode: ReadBufferMode::Type,
            strategy: BufferAccessStrategy,
        ) -> Buffer;
        pub(super) fn ReadRecentBuffer(
            place: RelationPlace,
            fork: ForkNumber::Type,
            block: BlockNumber,
            recent: Buffer,
        ) -> bool;
        pub(super) fn LockBuffer(buffer: Buffer, mode: i32);
        pub(super) fn MarkBufferDirty(buffer: Buffer);
        pub(super) fn ReleaseBuffer(buffer: Buffer);
        pub(super) fn UnlockReleaseBuffer(buffer: Buffer);
        /// Headers of the shared buffers.
        pub(super) static BufferDescriptors: *const super::unpinned::BufferHeader;
    }
}

/// Bytes of a block.
pub const BLOCK_BYTES: usize = pg_sys::BLCKSZ as usize;

/// A relation's file, as buffers know it.
fn place(relation: pg_sys::Relation) -> bare::RelationPlace {
    // SAFETY: the caller's relation is open.
    unsafe {
        #[cfg(feature = "pg15")]
        return (*relation).rd_node;
        #[cfg(not(feature = "pg15"))]
        return (*relation).rd_locator;
    }
}

/// The bytes of a buffer.
///
/// # Safety
/// The buffer is valid.
#[inline(always)]
unsafe fn bytes(buffer: pg_sys::Buffer) -> *mut [u8; BLOCK_BYTES] {
    // SAFETY: the caller's promise; the two arrays are PostgreSQL's own.
    unsafe {
        if buffer < 0 {
            (*pg_sys::LocalBufferBlockPointers.offset((-buffer - 1) as isize)).cast()
        } else {
            pg_sys::BufferBlocks.add((buffer as usize - 1) * BLOCK_BYTES).cast()
        }
    }
}

/// What a buffer holds.
///
/// # Safety
/// The buffer is pinned, and locked in a mode that keeps others from writing, while the page is used.
pub unsafe fn page_of<'p>(buffer: pg_sys::Buffer) -> &'p [u8; BLOCK_BYTES] {
    // SAFETY: the caller's promise.
    unsafe { &*bytes(buffer) }
}

/// Buffers in which blocks were found, which is where they are looked for first: finding one there takes no lookup in the
/// shared table.
#[derive(Default)]
pub struct RecentBuffers {
    buffers: Vec<pg_sys::Buffer>,
    /// Blocks that the fork is known to have: never more than it has.
    blocks: u32,
}

/// What a block is that the fork does not have: on a standby, and after a crash, blocks that were added and never written
/// are missing.
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Every so many reads of a scan go through the shared table, which tells PostgreSQL that the block is in use.
const TOUCH_EVERY: u32 = 64;
/// Every so many groups of blocks are pinned to be read, which tells PostgreSQL the same.
const PIN_EVERY: u32 = 16;

impl RecentBuffers {
    #[inline(always)]
    fn get(&self, block: u32) -> pg_sys::Buffer {
        self.buffers.get(block as usize).copied().unwrap_or(0)
    }

    /// Makes room for all blocks before `blocks`.
    fn reserve(&mut self, blocks: u32) {
        if self.buffers.len() < blocks as usize {
            self.buffers.resize((blocks as usize).next_power_of_two(), 0);
        }
    }

    /// Whether the fork has a block.
    #[inline(always)]
    fn has(&mut self, relation: pg_sys::Relation, block: u32) -> bool {
        block < self.blocks || self.has_now(relation, block)
    }

    #[cold]
    fn has_now(&mut self, relation: pg_sys::Relation, block: u32) -> bool {
        self.blocks = blocks(relation);
        block < self.blocks
    }
}

/// Blocks of the main fork of an open relation. The relation stays open, and locked in a mode that keeps its file, while
/// this lives.
pub struct RelationBuffers {
    relation: pg_sys::Relation,
    recent: RecentBuffers,
    reads: u32,
}

impl RelationBuffers {
    /// # Safety
    /// `relation` is open and stays so while the value lives.
    pub unsafe fn new(relation: pg_sys::Relation, recent: RecentBuffers) -> Self {
        RelationBuffers { relation, recent, reads: 0 }
    }

    pub fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    /// The buffers found so far, for the next one who reads this relation.
    pub fn take_recent(&mut self) -> RecentBuffers {
        std::mem::take(&mut self.recent)
    }

    /// Pins a block, without a lock.
    ///
    /// # Safety
    /// Called inside a guard, from a frame without anything to drop.
    #[inline(always)]
    unsafe fn pin(
        relation: pg_sys::Relation,
        place: bare::RelationPlace,
        block: u32,
        recent: &mut pg_sys::Buffer,
        touches: bool,
    ) -> pg_sys::Buffer {
        const MAIN: pg_sys::ForkNumber::Type = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the relation is open; a buffer that is not of this block any more is recognised.
        unsafe {
            if *recent != 0 && !touches && bare::ReadRecentBuffer(place, MAIN, block, *recent) {
                return *recent;
            }
            let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
            *recent = bare::ReadBufferExtended(relation, MAIN, block, normal, std::ptr::null_mut());
            *recent
        }
    }

    /// Calls `read` with a block under a share lock.
    #[inline]
    pub fn read<R>(&mut self, block: u32, read: impl FnOnce(&[u8; BLOCK_BYTES]) -> R) -> R {
        let relation = self.relation;
        if !self.recent.has(relation, block) {
            return read(&ZEROS);
        }
        let place = place(relation);
        self.reads = self.reads.wrapping_add(1);
        let touches = self.reads.is_multiple_of(TOUCH_EVERY);
        self.recent.reserve(block + 1);
        let mut ignored = 0;
        let recent = self.recent.buffers.get_mut(block as usize).unwrap_or(&mut ignored);
        // SAFETY: the closure holds references and numbers only.
        let buffer = unsafe {
            pg_guard_ffi_boundary(|| {
                let buffer = Self::pin(relation, place, block, recent, touches);
                bare::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
                buffer
            })
        };
        // SAFETY: the buffer is pinned and locked, so nobody writes to it.
        let result = read(unsafe { &*bytes(buffer) });
        // SAFETY: it was pinned and locked above.
        unsafe { pg_guard_ffi_boundary(|| bare::UnlockReleaseBuffer(buffer)) };
        result
    }

    /// Calls `read` with each block, not locked: `ahead` gives block, offset and length of what will be looked at, which
    /// nobody writes to any more. `read` may be called more than once with an index, of which the last time counts: what it
    /// was given before may have been anything. It neither panics nor has anything to drop.
    ///
    /// `is_written` tells by the end of a block whether it has been written: while a standby replays the image of a page
    /// that it does not have in memory, the block is all zero, and locked. Such a block is waited for.
    ///
    /// Most blocks are not even pinned, see [`Unpinned`].
    #[inline]
    pub fn read_stable(
        &mut self,
        count: usize,
        ahead: impl Fn(usize) -> (u32, usize, usize),
        is_written: impl Fn(&[u8; BLOCK_BYTES]) -> bool,
        mut read: impl FnMut(usize, &[u8; BLOCK_BYTES]),
    ) {
        let relation = self.relation;
        let last = (0..count).map(|index| ahead(index).0).max().unwrap_or(0);
        if !self.recent.has(relation, last) {
            return self.read_stable_of_short_fork(count, ahead, read);
        }
        self.recent.reserve(last + 1);
        self.reads = self.reads.wrapping_add(1);
        let unpinned = if self.reads.is_multiple_of(PIN_EVERY) { None } else { Unpinned::of(relation) };
        let mut from = 0;
        while from < count {
            // As many as a set of bits holds.
            let group = from..count.min(from + 128);
            let mut missed = u128::MAX;
            if let Some(unpinned) = &unpinned {
                missed = unpinned.read(group.clone(), &self.recent, &ahead, &is_written, &mut read);
            }
            self.read_pinned(group.clone(), missed, &ahead, &is_written, &mut read);
            from = group.end;
        }
    }

    /// Reads those blocks of a group whose bit is set, pinned.
    #[inline]
    fn read_pinned(
        &mut self,
        group: Range<usize>,
        wanted: u128,
        ahead: &impl Fn(usize) -> (u32, usize, usize),
        is_written: &impl Fn(&[u8; BLOCK_BYTES]) -> bool,
        read: &mut impl FnMut(usize, &[u8; BLOCK_BYTES]),
    ) {
        let is_wanted = |index: usize| wanted & 1 << (index - group.start) != 0;
        if !group.clone().any(is_wanted) {
            return;
        }
        let relation = self.relation;
        let place = place(relation);
        let recent = self.recent.buffers.as_mut_slice();
        // SAFETY: the closure holds references and numbers only, and `read` nothing to drop, as its contract says.
        unsafe {
            pg_guard_ffi_boundary(|| {
                let mut held: (u32, pg_sys::Buffer) = (u32::MAX, 0);
                for index in group.clone() {
                    if !is_wanted(index) {
                        continue;
                    }
                    let (block, ..) = ahead(index);
                    if held.0 != block {
                        if held.1 != 0 {
                            bare::ReleaseBuffer(held.1);
                        }
                        let mut ignored = 0;
                        let recent = recent.get_mut(block as usize).unwrap_or(&mut ignored);
                        held = (block, Self::pin(relation, place, block, recent, false));
                        Unpinned::learn(relation, block, held.1);
                    }
                    let page = &*bytes(held.1);
                    if is_written(page) {
                        read(index, page);
                        continue;
                    }
                    bare::LockBuffer(held.1, pg_sys::BUFFER_LOCK_SHARE as i32);
                    read(index, page);
                    bare::LockBuffer(held.1, pg_sys::BUFFER_LOCK_UNLOCK as i32);
                }
                if held.1 != 0 {
                    bare::ReleaseBuffer(held.1);
                }
            });
        }
    }
}

impl RelationBuffers {
    /// [`RelationBuffers::read_stable`] where the fork does not have all of the blocks.
    #[cold]
    fn read_stable_of_short_fork(
        &mut self,
        count: usize,
        ahead: impl Fn(usize) -> (u32, usize, usize),
        mut read: impl FnMut(usize, &[u8; BLOCK_BYTES]),
    ) {
        for index in 0..count {
            self.read(ahead(index).0, |page| read(index, page));
        }
    }
}

/// A change of some blocks of a relation, logged as one. Dropping it without [`PageChange::finish`] changes nothing, if it
/// is logged.
pub struct PageChange {
    /// Null if the change is not logged, which a build does: its pages are logged when it is done.
    state: *mut pg_sys::GenericXLogState,
    buffers: [pg_sys::Buffer; 4],
    count: usize,
}

impl PageChange {
    /// Locks blocks exclusively, in the order given.
    pub fn begin(buffers_of: &mut RelationBuffers, blocks: &[u32], is_logged: bool) -> PageChange {
        let relation = buffers_of.relation;
        let place = place(relation);
        let end = blocks.iter().max().map_or(0, |block| block + 1);
        if end > 0 && !buffers_of.recent.has(relation, end - 1) {
            extend_to(relation, end);
        }
        buffers_of.recent.reserve(end);
        let recent = buffers_of.recent.buffers.as_mut_slice();
        let mut buffers = [0; 4];
        // SAFETY: the closure holds references and numbers only.
        unsafe {
            pg_guard_ffi_boundary(|| {
                for (buffer, &block) in buffers.iter_mut().zip(blocks) {
                    let mut ignored = 0;
                    let recent = recent.get_mut(block as usize).unwrap_or(&mut ignored);
                    *buffer = RelationBuffers::pin(relation, place, block, recent, false);
                    bare::LockBuffer(*buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
                }
            });
            let state = if is_logged { pg_sys::GenericXLogStart(relation) } else { std::ptr::null_mut() };
            PageChange { state, buffers, count: blocks.len().min(4) }
        }
    }

    /// Copies of the blocks, which [`PageChange::finish`] puts into their place.
    pub fn pages(&mut self) -> [Option<&mut [u8; BLOCK_BYTES]>; 4] {
        let mut pages = [None, None, None, None];
        for (page, &buffer) in pages.iter_mut().zip(self.buffers.iter()).take(self.count) {
            // SAFETY: a buffer that is locked exclusively, each once; the copy lives as long as the state.
            *page = unsafe {
                if self.state.is_null() {
                    bytes(buffer).as_mut()
                } else {
                    let is_new = (*bytes(buffer)).iter().take(24).all(|&byte| byte == 0);
                    let flags = if is_new { pg_sys::GENERIC_XLOG_FULL_IMAGE as i32 } else { 0 };
                    pg_sys::GenericXLogRegisterBuffer(self.state, buffer, flags).cast::<[u8; BLOCK_BYTES]>().as_mut()
                }
            };
        }
        pages
    }

    /// Logs the change and makes it.
    pub fn finish(mut self) {
        // SAFETY: begun, and not ended yet; the buffers are locked exclusively.
        unsafe {
            if self.state.is_null() {
                for &buffer in self.buffers.iter().take(self.count) {
                    bare::MarkBufferDirty(buffer);
                }
            } else {
                pg_sys::GenericXLogFinish(self.state);
                self.state = std::ptr::null_mut();
            }
        }
    }
}

impl Drop for PageChange {
    fn drop(&mut self) {
        // While an error unwinds, the transaction's end releases everything.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: begun; the buffers are pinned and locked.
        unsafe {
            if !self.state.is_null() {
                pg_sys::GenericXLogAbort(self.state);
            }
            for &buffer in self.buffers.iter().take(self.count) {
                bare::UnlockReleaseBuffer(buffer);
            }
        }
    }
}

/// Blocks of the main fork.
pub fn blocks(relation: pg_sys::Relation) -> u32 {
    // SAFETY: the relation is open.
    unsafe { pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM) }
}

/// Makes the main fork at least so many blocks long, with blocks of zeros.
pub fn extend_to(relation: pg_sys::Relation, wanted: u32) {
    if blocks(relation) >= wanted {
        return;
    }
    let lock = pg_sys::ExclusiveLock as i32;
    // SAFETY: the relation is open; the buffers are released at once; an error releases the lock with the transaction.
    unsafe {
        pg_sys::LockRelationForExtension(relation, lock);
        while blocks(relation) < wanted {
            let new = pg_sys::InvalidBlockNumber;
            let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
            let main = pg_sys::ForkNumber::MAIN_FORKNUM;
            let buffer = pg_sys::ReadBufferExtended(relation, main, new, normal, std::ptr::null_mut());
            pg_sys::ReleaseBuffer(buffer);
        }
        pg_sys::UnlockRelationForExtension(relation, lock);
    }
}

/// Whether changes of a relation are logged.
pub fn needs_wal(relation: pg_sys::Relation) -> bool {
    // SAFETY: the relation is open; as the macro RelationNeedsWAL.
    unsafe {
        let is_permanent = (*(*relation).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT;
        let none = 0;
        #[cfg(feature = "pg15")]
        let created = (*relation).rd_createSubid != none || (*relation).rd_firstRelfilenodeSubid != none;
        #[cfg(not(feature = "pg15"))]
        let created = (*relation).rd_createSubid != none || (*relation).rd_firstRelfilelocatorSubid != none;
        is_permanent && (pg_sys::wal_level > pg_sys::WalLevel::WAL_LEVEL_MINIMAL as i32 || !created)
    }
}

/// Adds a page at the end of a fork. It is not logged.
///
/// # Safety
/// The relation is open, and nobody else writes to the fork.
pub unsafe fn append(relation: pg_sys::Relation, fork: pg_sys::ForkNumber::Type, page: &[u8; BLOCK_BYTES]) {
    // SAFETY: the caller's promise; the closure holds references and numbers only.
    unsafe {
        pg_guard_ffi_boundary(|| {
            let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer =
                bare::ReadBufferExtended(relation, fork, pg_sys::InvalidBlockNumber, normal, std::ptr::null_mut());
            bare::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
            (*bytes(buffer)).copy_from_slice(page);
            bare::MarkBufferDirty(buffer);
            bare::UnlockReleaseBuffer(buffer);
        });
    }
}
