//! Noticing `DROP EXTENSION pg_rag`, so that the model server does not outlive it.
//!
//! The hook sees the drop only in a process that has loaded the library. An event trigger of the extension
//! (`sql/models.sql`) loads it at the start of every command that can drop an extension; the trigger itself is
//! dropped too early to do more.

use pgrx::prelude::*;
use pgrx::{pg_sys, PgXactCallbackEvent};
use std::ffi::c_void;
use std::sync::OnceLock;

struct Installed {
    previous: pg_sys::object_access_hook_type,
    on_dropped: fn(),
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// Calls `on_dropped` after the commit of a transaction that dropped the extension. Called once, from `_PG_init`.
pub fn install(on_dropped: fn()) {
    // SAFETY: the hook is a process-local variable, and `_PG_init` runs on the only thread.
    let previous = unsafe { pg_sys::object_access_hook };
    if INSTALLED.set(Installed { previous, on_dropped }).is_ok() {
        // SAFETY: as above.
        unsafe { pg_sys::object_access_hook = Some(on_object_access) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_object: i32,
    argument: *mut c_void,
) {
    let Some(installed) = INSTALLED.get() else { return };
    if let Some(previous) = installed.previous {
        // SAFETY: the hook that was there before gets exactly what this one got.
        unsafe { previous(access, class, object, sub_object, argument) };
    }
    if access != pg_sys::ObjectAccessType::OAT_DROP || class != pg_sys::ExtensionRelationId {
        return;
    }
    // SAFETY: a catalogue look-up with a static name; the row of the extension still exists at this point.
    let ours = unsafe { pg_sys::get_extension_oid(c"pg_rag".as_ptr(), true) };
    if object == ours {
        pgrx::register_xact_callback(PgXactCallbackEvent::Commit, installed.on_dropped);
    }
}

/// The event trigger's function. Being called at all, it has loaded the library.
#[no_mangle]
#[pg_guard]
pub extern "C-unwind" fn pg_rag_notice_drop(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    pg_sys::Datum::null()
}

/// PostgreSQL's calling convention of [`pg_rag_notice_drop`].
#[no_mangle]
pub extern "C" fn pg_finfo_pg_rag_notice_drop() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}
