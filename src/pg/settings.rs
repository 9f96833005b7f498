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

/// Runs `work` with settings under which the text of a value is read back as the same value by any session.
pub fn with_portable_texts<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(i32);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: ends the level that was begun below.
            unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
        }
    }
    // SAFETY: the level is ended by `Restore`; all strings are static.
    let restore = Restore(unsafe { pg_sys::NewGUCNestLevel() });
    for (name, value) in PORTABLE_TEXTS {
        // SAFETY: as above.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
    let result = work();
    drop(restore);
    result
}

/// Settings that the text of values depends on, and what they are for texts that other sessions read.
pub const PORTABLE_TEXTS: [(&CStr, &CStr); 3] =
    [(c"datestyle", c"ISO"), (c"intervalstyle", c"postgres"), (c"extra_float_digits", c"3")];
