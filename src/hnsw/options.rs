//! Storage parameters of an index: names, ranges and defaults of pgvector's.
//!
//! Each is checked against its range when it is given. How they go together is checked when an index is built, as
//! pgvector does: `ALTER INDEX … SET` changes one at a time, and takes effect with the next `REINDEX`.

use crate::error::{invalid_parameter, Result};
use pg_rag_engine::hnsw::page::layout::{MAX_M, MIN_M};
use pg_rag_engine::hnsw::page::meta::{MAX_EF_CONSTRUCTION, MIN_EF_CONSTRUCTION};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::{c_int, CStr};
use std::mem::offset_of;
use std::sync::OnceLock;

pub const DEFAULT_M: u16 = 16;
pub const DEFAULT_EF_CONSTRUCTION: u16 = 64;

const M: &CStr = c"m";
const EF_CONSTRUCTION: &CStr = c"ef_construction";

/// The kind of our parameters among those of all access methods.
static KIND: OnceLock<pg_sys::relopt_kind::Type> = OnceLock::new();

/// The storage parameters of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Neighbours of a node, twice as many at level 0.
    pub m: u16,
    /// Candidates kept while the neighbours of a new node are searched.
    pub ef_construction: u16,
}

/// What `rd_options` points to: a varlena that [`amoptions`] made.
#[repr(C)]
struct Stored {
    header: i32,
    m: c_int,
    ef_construction: c_int,
}

/// Makes the parameters known. Called once, from `_PG_init`.
pub fn init() {
    KIND.get_or_init(|| {
        // SAFETY: called on the only thread; the strings are static, and copied.
        unsafe {
            let kind = pg_sys::add_reloption_kind();
            add(kind, M, c"Number of neighbours that a node of the graph is connected with", [DEFAULT_M, MIN_M, MAX_M]);
            add(
                kind,
                EF_CONSTRUCTION,
                c"Number of candidates among which the neighbours of a new node are chosen",
                [DEFAULT_EF_CONSTRUCTION, MIN_EF_CONSTRUCTION, MAX_EF_CONSTRUCTION],
            );
            kind
        }
    });
}

/// # Safety
/// On PostgreSQL's thread.
unsafe fn add(kind: pg_sys::relopt_kind::Type, name: &CStr, description: &CStr, range: [u16; 3]) {
    let [default, least, most] = range.map(c_int::from);
    // SAFETY: the caller's promise; both strings are copied.
    unsafe {
        pg_sys::add_int_reloption(
            kind,
            name.as_ptr(),
            description.as_ptr(),
            default,
            least,
            most,
            pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE,
        );
    }
}

impl Options {
    /// The parameters that the index was given, which [`amoptions`] has checked one by one.
    ///
    /// # Safety
    /// `index` is an open index of this access method.
    pub unsafe fn of(index: pg_sys::Relation) -> Self {
        // SAFETY: the options of such an index are what `amoptions` returned, or NULL for defaults.
        match unsafe { (*index).rd_options.cast::<Stored>().as_ref() } {
            Some(stored) => Options { m: in_range(stored.m), ef_construction: in_range(stored.ef_construction) },
            None => Options::default(),
        }
    }

    /// Checks how the parameters go together: what a build does first.
    pub fn check(self) -> Result<Self> {
        if self.ef_construction < 2 * self.m {
            return Err(invalid_parameter("ef_construction must be greater than or equal to 2 * m"));
        }
        Ok(self)
    }
}

impl Default for Options {
    fn default() -> Self {
        Options { m: DEFAULT_M, ef_construction: DEFAULT_EF_CONSTRUCTION }
    }
}

/// A number that PostgreSQL has checked against a range of `u16`.
fn in_range(number: c_int) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Reads `pg_class.reloptions`. With `validate`, an unknown name or a number out of range is an error.
#[pg_guard]
pub unsafe extern "C-unwind" fn amoptions(reloptions: pg_sys::Datum, validate: bool) -> *mut pg_sys::bytea {
    let elements = [element(M, offset_of!(Stored, m)), element(EF_CONSTRUCTION, offset_of!(Stored, ef_construction))];
    let Some(&kind) = KIND.get() else { return std::ptr::null_mut() };
    // SAFETY: the datum is what PostgreSQL gave; the elements describe `Stored`, and are read during the call.
    unsafe {
        pg_sys::build_reloptions(
            reloptions,
            validate,
            kind,
            size_of::<Stored>(),
            elements.as_ptr(),
            elements.len() as c_int,
        )
        .cast()
    }
}

/// Where [`Stored`] has a parameter; its offset is a few bytes.
fn element(name: &'static CStr, offset: usize) -> pg_sys::relopt_parse_elt {
    pg_sys::relopt_parse_elt {
        optname: name.as_ptr(),
        opttype: pg_sys::relopt_type::RELOPT_TYPE_INT,
        offset: offset as c_int,
        // Zero: nobody asks whether a parameter was given.
        #[cfg(feature = "pg18")]
        isset_offset: 0,
    }
}
