//! Settings: what pgrx's registry does not cover.

use pgrx::pg_sys;
use std::ffi::CStr;

/// Makes unknown settings under `prefix` an error instead of a silent placeholder.
pub fn reserve_prefix(prefix: &'static CStr) {
    // SAFETY: called from `_PG_init` with a static, NUL-terminated string, which is copied.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) }
}

/// Reads the configuration file again; a background worker calls it after SIGHUP.
pub fn reload() {
    // SAFETY: called from the main loop of a background worker, outside any transaction.
    unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) }
}
