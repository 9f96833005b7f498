//! Acting as the extension's owner for the few statements that an ordinary user may cause but not run: creating a
//! table in schema `rag`, writing the catalogue of indexes.
//!
//! Callers check the real user's rights first, and run only statements that they composed themselves from quoted
//! names: never an expression that a user wrote.

use crate::error::{error, Result};
use pgrx::{pg_sys, PgSqlErrorCode};

/// Restores the user and the settings when dropped, also while unwinding from an error.
struct Restore {
    user: pg_sys::Oid,
    context: i32,
    guc_level: i32,
}

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: puts back the values that `as_user` read in the same process, and ends the level that it began.
        unsafe {
            pg_sys::AtEOXact_GUC(false, self.guc_level);
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

/// Runs `work` with the rights of `user`. `SET ROLE` is refused inside, and names that are not qualified mean
/// PostgreSQL's own objects, whatever the caller's search path.
fn as_user<R>(user: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    let mut restore = Restore { user: pg_sys::InvalidOid, context: 0, guc_level: 0 };
    // SAFETY: the pointers are to live locals and static strings; what is changed is restored by `Restore`.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut restore.user, &mut restore.context);
        restore.guc_level = pg_sys::NewGUCNestLevel();
        pg_sys::SetUserIdAndSecContext(user, restore.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
    let result = work();
    drop(restore);
    result
}

/// Runs `work` with the rights of the extension's owner.
pub fn as_extension_owner<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    let owner = extension_owner()?;
    as_user(owner, work)
}

fn extension_owner() -> Result<pg_sys::Oid> {
    // `Spi::get_one` would assign a transaction id, which a standby cannot.
    let query = "SELECT extowner FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'pg_rag'";
    let owner = pgrx::Spi::connect(|client| client.select(query, Some(1), &[])?.first().get_one::<pg_sys::Oid>());
    owner
        .ok()
        .flatten()
        .ok_or_else(|| error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, "extension \"pg_rag\" is not installed"))
}

/// Whether the current user may do with `relation` what its owner may.
pub fn owns_relation(relation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up; an oid that does not exist raises an error.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(relation, pg_sys::GetUserId());
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, pg_sys::GetUserId());
    }
}
