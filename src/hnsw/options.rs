//! `WITH (m = …, ef_construction = …)`: names, ranges and defaults of pgvector's.

use pgrx::{pg_guard, pg_sys};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};

pub const DEFAULT_M: u16 = 16;
pub const DEFAULT_EF_CONSTRUCTION: u16 = 64;

/// The kind that PostgreSQL has given to these options.
static KIND: AtomicU32 = AtomicU32::new(0);

/// The parsed options, as PostgreSQL keeps them with the relation.
#[repr(C)]
struct Parsed {
    varlena_header: i32,
    m: i32,
    ef_construction: i32,
}

/// The options of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildOptions {
    pub m: u16,
    pub ef_construction: u16,
}

/// Defines the options.
pub fn init() {
    // SAFETY: called from `_PG_init`; the strings are static.
    unsafe {
        let kind = pg_sys::add_reloption_kind();
        KIND.store(kind as u32, Ordering::Relaxed);
        let lock = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
        let m = c"Max number of connections".as_ptr();
        pg_sys::add_int_reloption(kind, c"m".as_ptr(), m, i32::from(DEFAULT_M), 2, 100, lock);
        let ef = c"Size of the dynamic candidate list for construction".as_ptr();
        let default = i32::from(DEFAULT_EF_CONSTRUCTION);
        pg_sys::add_int_reloption(kind, c"ef_construction".as_ptr(), ef, default, 4, 1000, lock);
    }
}

/// The options of an open index.
///
/// # Safety
/// `index` is open.
pub unsafe fn of(index: pg_sys::Relation) -> BuildOptions {
    // SAFETY: the caller's promise; the options were made by `amoptions`.
    let parsed = unsafe { (*index).rd_options.cast::<Parsed>().as_ref() };
    parsed.map_or(BuildOptions { m: DEFAULT_M, ef_construction: DEFAULT_EF_CONSTRUCTION }, |parsed| BuildOptions {
        m: parsed.m as u16,
        ef_construction: parsed.ef_construction as u16,
    })
}

/// Parses the options of CREATE INDEX and ALTER INDEX.
///
/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
pub unsafe extern "C-unwind" fn amoptions(options: pg_sys::Datum, validate: bool) -> *mut pg_sys::bytea {
    let int = |name: &'static std::ffi::CStr, offset: usize| pg_sys::relopt_parse_elt {
        optname: name.as_ptr(),
        opttype: pg_sys::relopt_type::RELOPT_TYPE_INT,
        offset: offset as i32,
        ..Default::default()
    };
    let table = [int(c"m", offset_of!(Parsed, m)), int(c"ef_construction", offset_of!(Parsed, ef_construction))];
    // SAFETY: the table describes `Parsed`.
    unsafe {
        pg_sys::build_reloptions(
            options,
            validate,
            KIND.load(Ordering::Relaxed) as pg_sys::relopt_kind::Type,
            size_of::<Parsed>(),
            table.as_ptr(),
            table.len() as i32,
        )
        .cast()
    }
}
