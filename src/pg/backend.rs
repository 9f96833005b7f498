//! Facts about the process this code runs in.

use pgrx::pg_sys;
use std::ffi::CStr;
use std::path::PathBuf;

/// Whether the library is being loaded by the postmaster through `shared_preload_libraries`.
pub fn is_preloading() -> bool {
    // SAFETY: reads a process-local flag.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// The folder of loadable modules, where the extension's library lies.
pub fn library_folder() -> PathBuf {
    // SAFETY: filled at process start with a NUL-terminated path and never changed.
    let folder = unsafe { CStr::from_ptr((&raw const pg_sys::pkglib_path).cast()) };
    PathBuf::from(folder.to_string_lossy().into_owned())
}

/// Object id of the database that this backend is connected to.
pub fn database_oid() -> pg_sys::Oid {
    // SAFETY: reads a process-local variable.
    unsafe { pg_sys::MyDatabaseId }
}

/// The role that the session belongs to, whatever SET ROLE or a security-definer function says at the moment.
pub fn session_role() -> pg_sys::Oid {
    // SAFETY: reads a process-local variable.
    unsafe { pg_sys::GetSessionUserId() }
}

/// Asks the process `pid`, a child of this one, to end.
pub fn terminate(pid: libc::pid_t) {
    // SAFETY: sends a signal; a process that is gone makes the call fail without effect.
    unsafe { libc::kill(pid, libc::SIGTERM) };
}

/// Fails with SQLSTATE 25006 if the transaction may not write, as on a standby. `function` names the caller.
pub fn require_writable(function: &CStr) {
    // SAFETY: the name is NUL-terminated and used only during the call.
    unsafe { pg_sys::PreventCommandIfReadOnly(function.as_ptr()) };
}
