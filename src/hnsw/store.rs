//! The index's storage: blocks of a relation in shared buffers, changes logged as generic WAL.

#![allow(unsafe_code)]

use super::errors::IndexError;
use crate::pg::buffer::{self, PageChange, RelationBuffers, BLOCK_BYTES};
use pg_rag_engine::hnsw::index::{PageStore, Span};
use pg_rag_engine::hnsw::page::{special, Page, PageError, PageKind, META_BLOCK, PAGE_BYTES, SPECIAL_OFFSET};
use pgrx::pg_sys;

const _: () = assert!(BLOCK_BYTES == PAGE_BYTES);

/// An open index relation.
pub struct RelationStore {
    buffers: RelationBuffers,
    is_logged: bool,
}

impl RelationStore {
    pub fn new(buffers: RelationBuffers) -> Self {
        RelationStore { buffers, is_logged: true }
    }

    /// For a build, which logs all pages when it is done. An error may leave a change half made: the index is gone then.
    pub fn unlogged(buffers: RelationBuffers) -> Self {
        RelationStore { buffers, is_logged: false }
    }

    pub fn buffers(&mut self) -> &mut RelationBuffers {
        &mut self.buffers
    }

    pub fn relation(&self) -> pg_sys::Relation {
        self.buffers.relation()
    }
}

/// Sets PostgreSQL's header of a page, which the engine leaves alone.
pub fn set_header(page: &mut Page) {
    let kind = special::read(page).map_or(PageKind::Node, |special| special.kind);
    // SAFETY: a page is as long as PostgreSQL's, and begins with its header, whatever its bytes are.
    unsafe {
        let header = page.as_mut_ptr().cast::<pg_sys::PageHeaderData>();
        (*header).pd_lower = special::pd_lower(kind) as u16;
        (*header).pd_upper = SPECIAL_OFFSET as u16;
        (*header).pd_special = SPECIAL_OFFSET as u16;
        (*header).pd_pagesize_version = (PAGE_BYTES as u32 | pg_sys::PG_PAGE_LAYOUT_VERSION) as u16;
    }
}

impl PageStore for RelationStore {
    type Error = IndexError;

    #[inline]
    fn read<R>(&mut self, block: u32, read: impl FnOnce(&Page) -> R) -> Result<R, IndexError> {
        Ok(self.buffers.read(block, read))
    }

    #[inline]
    fn read_stable(&mut self, spans: &[Span], read: impl FnMut(usize, &Page)) -> Result<(), IndexError> {
        let ahead = |index: usize| {
            let span = &spans[index];
            (span.block, span.offset, span.length_bytes)
        };
        self.buffers.read_stable(spans.len(), ahead, |page| !special::is_new(page), read);
        Ok(())
    }

    fn change<R>(
        &mut self,
        blocks: &[u32],
        change: impl FnOnce(&mut [&mut Page]) -> Result<R, PageError>,
    ) -> Result<R, IndexError> {
        debug_assert!(blocks.len() <= 4 && blocks.is_sorted_by(|a, b| a < b));
        let mut logged = PageChange::begin(&mut self.buffers, blocks, self.is_logged);
        let result = {
            let mut pages: Vec<&mut Page> = logged.pages().into_iter().flatten().collect();
            let result = change(&mut pages)?;
            for page in &mut pages {
                set_header(page);
            }
            result
        };
        logged.finish();
        Ok(result)
    }

    fn extend_to(&mut self, blocks: u32) -> Result<(), IndexError> {
        buffer::extend_to(self.relation(), blocks);
        Ok(())
    }

    fn drain_inserts(&mut self) -> Result<(), IndexError> {
        // Insertions hold the metapage's heavyweight lock in share mode.
        // SAFETY: the relation is open.
        unsafe {
            pg_sys::LockPage(self.relation(), META_BLOCK, pg_sys::ExclusiveLock as i32);
            pg_sys::UnlockPage(self.relation(), META_BLOCK, pg_sys::ExclusiveLock as i32);
        }
        Ok(())
    }

    #[inline]
    fn check_interrupts(&mut self) -> Result<(), IndexError> {
        // SAFETY: a flag that signal handlers set.
        if unsafe { std::ptr::read_volatile(&raw const pg_sys::InterruptPending) } != 0 {
            pgrx::check_for_interrupts!();
        }
        Ok(())
    }
}
