//! Who may use, grant and drop a model: `rag_grant_model`, `rag_revoke_model`.
//!
//! As PostgreSQL does it: a model has an owner, everybody may use it unless that is revoked from `public`, and superusers
//! may do everything. The roles lie in `rag.model_grant` by their ids, so renaming one changes nothing; rows of a role
//! that was dropped mean nothing, are not dumped, and go with the next change.

use crate::error::{error, OrError, Result};
use crate::models::{catalog, registry};
use crate::pg::backend::require_writable;
use crate::pg::{owner, role};
use pgrx::prelude::*;
use pgrx::{pg_sys, PgSqlErrorCode};
use std::ffi::CString;

/// Stands for all roles, as in GRANT.
const PUBLIC: &str = "public";

/// Fails unless the current role may use the model `name`, whose use is restricted to `roles` and its owners.
pub(super) fn require_use(name: &str, roles: &[pg_sys::Oid]) -> Result<()> {
    match role::is_superuser() || roles.iter().any(|&role| role::has_rights_of(role)) {
        true => Ok(()),
        false => Err(error(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for model \"{name}\""),
        )
        .set_hint("Its owner or a superuser can grant it with rag_grant_model().")),
    }
}

/// Fails unless the current role owns the model `name` or is a superuser.
pub(super) fn require_ownership(name: &str) -> Result<()> {
    if role::is_superuser() {
        return Ok(());
    }
    let owners = Spi::connect(|client| -> Result<Vec<pg_sys::Oid>> {
        let query = "SELECT role::oid FROM rag.model_grant WHERE model OPERATOR(pg_catalog.=) $1
                        AND privilege OPERATOR(pg_catalog.=) 'owner'";
        let rows = client.select(query, None, &[name.into()]).or_error()?;
        rows.into_iter().filter_map(|row| row.get::<pg_sys::Oid>(1).or_error().transpose()).collect()
    })?;
    match owners.into_iter().any(role::has_rights_of) {
        true => Ok(()),
        false => {
            Err(error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of model \"{name}\"")))
        }
    }
}

/// Gives the new model `name` to the current role, with the restrictions and grants of the model that it was made from.
pub(super) fn begin(name: &str, made_from: Option<&str>) -> Result<()> {
    let user = role::current();
    owner::as_extension_owner(|| {
        forget(name)?;
        Spi::run_with_args(
            "INSERT INTO rag.model_grant (model, role, privilege) VALUES ($1, $2, 'owner')",
            &[name.into(), user.into()],
        )
        .or_error()?;
        let Some(original) = made_from else { return Ok(()) };
        for statement in [
            "INSERT INTO rag.restricted_model (model) SELECT $1 FROM rag.restricted_model
              WHERE model OPERATOR(pg_catalog.=) $2",
            // Who owns the original may use what was made of it.
            "INSERT INTO rag.model_grant (model, role, privilege) SELECT DISTINCT $1, role, 'use' FROM rag.model_grant
              WHERE model OPERATOR(pg_catalog.=) $2",
        ] {
            Spi::run_with_args(statement, &[name.into(), original.into()]).or_error()?;
        }
        Ok(())
    })
}

/// Removes what is known of the access to `name`, and of roles that are gone. Runs with the extension owner's rights.
fn forget(name: &str) -> Result<()> {
    forget_dropped_roles()?;
    for table in ["rag.restricted_model", "rag.model_grant"] {
        let statement = format!("DELETE FROM {table} WHERE model OPERATOR(pg_catalog.=) $1");
        Spi::run_with_args(&statement, &[name.into()]).or_error()?;
    }
    Ok(())
}

fn forget_dropped_roles() -> Result<()> {
    Spi::run("DELETE FROM rag.model_grant WHERE role::oid NOT IN (SELECT oid FROM pg_catalog.pg_roles)").or_error()
}

/// `role` as an argument; `None` for all roles.
fn role_of(role: &str) -> Result<Option<pg_sys::Oid>> {
    if role == PUBLIC {
        return Ok(None);
    }
    let name = CString::new(role).map_err(|_| crate::error::invalid_parameter("name of a role has a NUL in it"))?;
    Ok(Some(role::named(&name)))
}

/// Lets `role` use the model `name`.
#[pg_extern(sql = false)]
fn rag_grant_model(name: &str, role: &str) -> Result<()> {
    require_writable(c"rag_grant_model()");
    change(
        name,
        role,
        "DELETE FROM rag.restricted_model WHERE model OPERATOR(pg_catalog.=) $1",
        "INSERT INTO rag.model_grant (model, role, privilege) VALUES ($1, $2, 'use') ON CONFLICT DO NOTHING",
    )
    .map(drop)
}

/// Takes the use of the model `name` from `role`.
#[pg_extern(sql = false)]
fn rag_revoke_model(name: &str, role: &str) -> Result<()> {
    require_writable(c"rag_revoke_model()");
    let of_role = change(
        name,
        role,
        "INSERT INTO rag.restricted_model (model) VALUES ($1) ON CONFLICT DO NOTHING",
        "DELETE FROM rag.model_grant WHERE model OPERATOR(pg_catalog.=) $1 AND role::oid OPERATOR(pg_catalog.=) $2
            AND privilege OPERATOR(pg_catalog.=) 'use'",
    )?;
    if of_role && !catalog::is_restricted(name)? {
        notice!("all roles may still use model \"{name}\"; revoke it from \"public\", too");
    }
    Ok(())
}

/// Runs one of the two statements, with the rights of the extension's owner; whether it was that for a role.
fn change(name: &str, role: &str, for_public: &str, for_role: &str) -> Result<bool> {
    catalog::entry(name)?;
    require_ownership(name)?;
    let role = role_of(role)?;
    owner::as_extension_owner(|| {
        forget_dropped_roles()?;
        match role {
            None => Spi::run_with_args(for_public, &[name.into()]).or_error(),
            Some(role) => Spi::run_with_args(for_role, &[name.into(), role.into()]).or_error(),
        }
    })?;
    registry::announce_change()?;
    Ok(role.is_some())
}
