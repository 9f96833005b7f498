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

/// Runs `work` with the rights of `user`, `flags` added to the security context. `SET ROLE` is refused inside, and names
/// that are not qualified mean PostgreSQL's own objects, whatever the caller's search path.
fn as_user<R>(user: pg_sys::Oid, flags: u32, work: impl FnOnce() -> R) -> R {
    let mut restore = Restore { user: pg_sys::InvalidOid, context: 0, guc_level: 0 };
    // SAFETY: the pointers are to live locals and static strings; what is changed is restored by `Restore`.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut restore.user, &mut restore.context);
        restore.guc_level = pg_sys::NewGUCNestLevel();
        pg_sys::SetUserIdAndSecContext(user, restore.context | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | flags) as i32);
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
    as_user(owner, 0, work)
}

/// Runs `work` on behalf of a table's owner, who did not ask for it now: what the owner's expressions and triggers could
/// do with the rights of the session is refused, as in VACUUM.
pub fn as_restricted_user<R>(user: pg_sys::Oid, work: impl FnOnce() -> Result<R>) -> Result<R> {
    as_user(user, pg_sys::SECURITY_RESTRICTED_OPERATION, work)
}

fn extension_owner() -> Result<pg_sys::Oid> {
    let query = "SELECT extowner FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'pg_rag'";
    // A plain read: `Spi::get_one` would assign a transaction id, which a standby cannot.
    let owner = pgrx::Spi::connect(|client| {
        client.select(query, Some(1), &[]).and_then(|rows| rows.first().get_one::<pg_sys::Oid>())
    });
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

/// The role that owns the relation of this qualified, quoted name.
pub fn owner_of(relation: &str) -> Result<pg_sys::Oid> {
    pgrx::Spi::get_one_with_args::<pg_sys::Oid>(
        "SELECT relowner FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) $1::pg_catalog.regclass",
        &[relation.into()],
    )
    .ok()
    .flatten()
    .ok_or_else(|| error(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, format!("relation {relation} does not exist")))
}
