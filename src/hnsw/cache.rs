//! What a backend remembers of an index between two uses: its shape and the buffers that its blocks were found in.
//!
//! Kept by the relation's file; whether it is of the index that is in the file now, the engine sees by the seed in the
//! metapage. A use takes the entry out and puts it back, so a second use at the same time begins anew.

use super::errors::IndexError;
use super::store::RelationStore;
use crate::pg::buffer::{RecentBuffers, RelationBuffers};
use pg_rag_engine::hnsw::index::{Index, Shape};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use std::cell::RefCell;
use std::rc::Rc;

/// Indexes remembered.
const MOST: usize = 32;

struct Remembered {
    file: (u32, u32),
    shape: Rc<Shape>,
    recent: RecentBuffers,
}

thread_local! {
    static REMEMBERED: RefCell<Vec<Remembered>> = const { RefCell::new(Vec::new()) };
}

fn file_of(index: pg_sys::Relation) -> (u32, u32) {
    // SAFETY: the relation is open.
    unsafe {
        #[cfg(feature = "pg15")]
        return ((*index).rd_node.spcNode.to_u32(), (*index).rd_node.relNode.to_u32());
        #[cfg(not(feature = "pg15"))]
        return ((*index).rd_locator.spcOid.to_u32(), (*index).rd_locator.relNumber.to_u32());
    }
}

/// Opens the engine's index over an open relation.
///
/// # Safety
/// `index` is open and stays so while the value lives.
pub unsafe fn open(index: pg_sys::Relation) -> Result<Index<RelationStore>, IndexError> {
    let file = file_of(index);
    let remembered = REMEMBERED.with_borrow_mut(|all| {
        let at = all.iter().position(|entry| entry.file == file)?;
        Some(all.remove(at))
    });
    let (shape, recent) = match remembered {
        Some(entry) => (Some(entry.shape), entry.recent),
        None => (None, RecentBuffers::default()),
    };
    // SAFETY: the caller's promise.
    Index::open(RelationStore::new(unsafe { RelationBuffers::new(index, recent) }), shape)
}

/// Ends a use.
pub fn close(index: Index<RelationStore>) {
    let shape = Rc::clone(index.shape());
    let mut store = index.into_store();
    let entry = Remembered { file: file_of(store.relation()), shape, recent: store.buffers().take_recent() };
    REMEMBERED.with_borrow_mut(|all| {
        if all.len() >= MOST {
            all.remove(0);
        }
        all.push(entry);
    });
}

/// The name of an open relation.
pub fn name(relation: pg_sys::Relation) -> String {
    // SAFETY: an open relation has a name.
    unsafe { std::ffi::CStr::from_ptr((*(*relation).rd_rel).relname.data.as_ptr()).to_string_lossy().into_owned() }
}

/// The value, or the error raised in the name of the index.
pub fn or_raise<T>(result: Result<T, IndexError>, index: pg_sys::Relation) -> T {
    result.map_err(|error| -> ErrorReport { error.report(&name(index)) }).unwrap_or_report()
}
