//! PostgreSQL's parallel workers: starting them with shared memory, and ending them.
//!
//! The caller names blocks of shared memory by numbers; both sides find them under these. Between begin and end the backend
//! is in parallel mode, in which it may neither assign transaction ids nor change rows.

use pgrx::pg_sys;
use std::ffi::{c_char, c_void, CStr};

/// Key of the text of the statement. PostgreSQL's own keys have the highest bits set, the callers' are small.
const KEY_QUERY_TEXT: u64 = 0xA000_0000_0000_0000;
/// What the table of contents takes beside the blocks.
const BOOKKEEPING_BYTES: usize = 256;

/// Bytes of a block, as they are allocated.
const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(64)
}

/// Workers, and the memory that they share with this process.
pub struct Workers {
    context: *mut pg_sys::ParallelContext,
}

impl Workers {
    /// Gets ready to run a function of this library in so many workers, with zeroed blocks of so many bytes. None if there
    /// is no memory to share. Leaves parallel mode in that case.
    ///
    /// # Safety
    /// `function` is an exported function of the library that takes what a parallel worker is given.
    pub unsafe fn begin(function: &CStr, workers: i32, blocks: &[(u64, usize)]) -> Option<Workers> {
        // SAFETY: as PostgreSQL's own parallel commands do it.
        unsafe {
            pg_sys::EnterParallelMode();
            let context = pg_sys::CreateParallelContext(c"$libdir/pg_rag".as_ptr(), function.as_ptr(), workers);
            let text = pg_sys::debug_query_string;
            let text_bytes = if text.is_null() { 0 } else { CStr::from_ptr(text).count_bytes() + 1 };
            let estimator = &mut (*context).estimator;
            estimator.space_for_chunks += blocks.iter().map(|&(_, bytes)| aligned(bytes)).sum::<usize>();
            estimator.space_for_chunks += aligned(text_bytes) + BOOKKEEPING_BYTES;
            estimator.number_of_keys += blocks.len() + 1;
            pg_sys::InitializeParallelDSM(context);
            let workers = Workers { context };
            if (*context).seg.is_null() {
                workers.end();
                return None;
            }
            let toc = (*context).toc;
            for &(key, bytes) in blocks {
                let block = pg_sys::shm_toc_allocate(toc, bytes);
                std::ptr::write_bytes(block.cast::<u8>(), 0, bytes);
                pg_sys::shm_toc_insert(toc, key, block);
            }
            if text_bytes > 0 {
                let copy = pg_sys::shm_toc_allocate(toc, text_bytes).cast::<c_char>();
                std::ptr::copy_nonoverlapping(text, copy, text_bytes);
                pg_sys::shm_toc_insert(toc, KEY_QUERY_TEXT, copy.cast());
            }
            Some(workers)
        }
    }

    /// The block with a key.
    pub fn block(&self, key: u64) -> *mut c_void {
        // SAFETY: the table of contents lives until the end.
        unsafe { pg_sys::shm_toc_lookup((*self.context).toc, key, false) }
    }

    /// Starts the workers; false if none could be had.
    ///
    /// # Safety
    /// The blocks are ready for the workers.
    pub unsafe fn launch(&self) -> bool {
        // SAFETY: begun, and not launched before.
        unsafe {
            pg_sys::LaunchParallelWorkers(self.context);
            let launched = (*self.context).nworkers_launched;
            pgrx::debug1!("using {launched} parallel workers");
            if launched > 0 {
                pg_sys::WaitForParallelWorkersToAttach(self.context);
            }
            launched > 0
        }
    }

    /// Waits until all workers have returned. An error of one is raised here.
    pub fn wait(&self) {
        // SAFETY: launched.
        unsafe { pg_sys::WaitForParallelWorkersToFinish(self.context) };
    }

    /// Ends parallel mode; the blocks are gone. Not a destructor: after an error the transaction has ended it.
    pub fn end(self) {
        // SAFETY: begun, and not ended.
        unsafe {
            pg_sys::DestroyParallelContext(self.context);
            pg_sys::ExitParallelMode();
        }
    }
}

/// In a worker: the block with a key.
///
/// # Safety
/// `toc` is what PostgreSQL gave the worker.
pub unsafe fn block_of(toc: *mut pg_sys::shm_toc, key: u64) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { pg_sys::shm_toc_lookup(toc, key, false) }
}

/// In a worker: shows the leader's statement as its own.
///
/// # Safety
/// As for [`block_of`].
pub unsafe fn show_query_text(toc: *mut pg_sys::shm_toc) {
    // SAFETY: the leader has put the text there, if it had one.
    unsafe {
        let text = pg_sys::shm_toc_lookup(toc, KEY_QUERY_TEXT, true).cast::<c_char>();
        if !text.is_null() {
            pg_sys::debug_query_string = text;
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text);
        }
    }
}
