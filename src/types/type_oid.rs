//! The object ids of the types of this extension, whatever the search path.
//!
//! pgrx asks for it to build arrays (`vector[]`) and to pass parameters to SPI. Only the type in the schema of the
//! extension counts: another schema may hold a type of the same name.

#![allow(unsafe_code)]

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{pg_sys, PgRelation, PgSqlErrorCode};
use std::cell::RefCell;
use std::ffi::CStr;

/// Name of the extension: cargo-pgrx names it after the package.
const EXTENSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_NAME"), "\0").as_bytes()) {
    Ok(name) => name,
    Err(_) => c"",
};

thread_local! {
    /// The ids found last. Checked before use: the extension may be dropped and created again in one session.
    static CACHED: RefCell<Vec<(&'static CStr, pg_sys::Oid)>> = const { RefCell::new(Vec::new()) };
}

/// The id of the type of this name. Raises `ERRCODE_UNDEFINED_OBJECT` where the extension is not installed in this
/// database.
pub(super) fn type_oid(name: &'static CStr) -> pg_sys::Oid {
    let cached = CACHED.with_borrow(|cached| cached.iter().find(|(other, _)| *other == name).map(|(_, oid)| *oid));
    if let Some(oid) = cached.filter(|oid| type_exists(*oid)) {
        return oid;
    }
    let found = extension_schema().and_then(|schema| type_in(schema, name));
    let oid = found.ok_or_else(|| not_installed(name)).unwrap_or_report();
    CACHED.with_borrow_mut(|cached| {
        cached.retain(|(other, _)| *other != name);
        cached.push((name, oid));
    });
    oid
}

fn not_installed(name: &CStr) -> ErrorReport {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        format!("type {name:?} of extension {EXTENSION:?} does not exist"),
        "type_oid",
    )
    .set_hint(format!("Run CREATE EXTENSION {} in this database.", EXTENSION.to_string_lossy()))
}

fn type_exists(oid: pg_sys::Oid) -> bool {
    // SAFETY: looks a key up in a system cache; the caches exist wherever SQL runs.
    unsafe {
        pg_sys::SearchSysCacheExists(
            pg_sys::SysCacheIdentifier::TYPEOID as i32,
            pg_sys::Datum::from(oid),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        )
    }
}

fn type_in(schema: pg_sys::Oid, name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: looks a key up in a system cache; the name is compared as a C string.
    let oid = unsafe {
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as i16,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// The schema of the extension. Reads the catalogue: there is no system cache of extensions, and PostgreSQL exports
/// `get_extension_schema` only from version 16 on.
fn extension_schema() -> Option<pg_sys::Oid> {
    // SAFETY: the catalogue is open for the whole scan; the key lies on the stack until the scan has ended; the row is
    // read before the scan goes on. `extnamespace` lies in the fixed part of the row.
    unsafe {
        let catalogue = PgRelation::with_lock(pg_sys::ExtensionRelationId, pg_sys::AccessShareLock as i32);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            pg_sys::Anum_pg_extension_extname as i16,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_NAMEEQ.into(),
            pg_sys::Datum::from(EXTENSION.as_ptr()),
        );
        let scan = pg_sys::systable_beginscan(
            catalogue.as_ptr(),
            pg_sys::ExtensionNameIndexId.into(),
            true,
            std::ptr::null_mut(),
            1,
            &mut key,
        );
        let row = pg_sys::systable_getnext(scan);
        let schema = (!row.is_null()).then(|| {
            let extension = pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_extension>();
            (*extension).extnamespace
        });
        pg_sys::systable_endscan(scan);
        schema
    }
}
