//! Roles, and who may act as whom.

use pgrx::pg_sys;
use std::ffi::CStr;

/// The role whose rights count at the moment.
pub fn current() -> pg_sys::Oid {
    // SAFETY: reads a process-local variable.
    unsafe { pg_sys::GetUserId() }
}

pub fn is_superuser() -> bool {
    // SAFETY: a look-up in a cache of PostgreSQL's.
    unsafe { pg_sys::superuser() }
}

/// Whether the current role has the rights of `role`, as itself or as a member that inherits. A role that is gone has
/// none.
pub fn has_rights_of(role: pg_sys::Oid) -> bool {
    // SAFETY: looks into PostgreSQL's list of the roles that the current one is a member of.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), role) }
}

/// The role of this name. A name that is not one raises an error.
pub fn named(name: &CStr) -> pg_sys::Oid {
    // SAFETY: the name is NUL-terminated and used only during the call.
    unsafe { pg_sys::get_role_oid(name.as_ptr(), false) }
}
