//! Prompt templates that have names: rows of `rag.prompt_template`.
//!
//! Whoever may call `rag_create_template` owns what it creates; only the owner replaces or drops it, since a template decides
//! what others' questions are answered like. Everybody may read and use all of them.

use crate::error::{error, from_prompt, invalid_parameter, OrError, Result};
use crate::pg::backend::require_writable;
use crate::pg::owner;
use crate::rag::catalog;
use pg_rag_engine::prompt;
use pgrx::prelude::*;
use pgrx::{pg_sys, PgSqlErrorCode};

/// Longest name, that of PostgreSQL's own objects; longest body.
const MAX_NAME_BYTES: usize = 63;
const MAX_BODY_BYTES: usize = 1 << 20;

/// The body that the argument `template` means: itself if it has a placeholder's brace, which no name has, else that of the
/// template with this name.
pub fn resolve(template: Option<&str>) -> Result<Option<String>> {
    match template {
        None => Ok(None),
        Some(body) if body.contains('{') => Ok(Some(body.to_owned())),
        Some(name) => match find(name)? {
            Some((body, _)) => Ok(Some(body)),
            None => Err(undefined(name).set_hint(
                "List the templates with: SELECT name FROM rag_templates. A template that is written out has {context} and {question}.",
            )),
        },
    }
}

/// Body and owner of a template. The owner is kept by name: so a dump can be restored where the role does not exist.
fn find(name: &str) -> Result<Option<(String, String)>> {
    let row = |column: &str| format!("SELECT {column} FROM rag.prompt_template WHERE name OPERATOR(pg_catalog.=) $1");
    let body = catalog::read_one::<String>(&row("body"), &[name.into()])?;
    let owner = catalog::read_one::<String>(&row("owner::text"), &[name.into()])?;
    Ok(body.zip(owner))
}

fn undefined(name: &str) -> pg_sys::panic::ErrorReport {
    error(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("template \"{name}\" does not exist"))
}

#[pg_extern(sql = false)]
fn rag_create_template(name: &str, body: &str, or_replace: bool) -> Result<()> {
    require_writable(c"rag_create_template()");
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(|c: char| c == '{' || c == '}' || c.is_control())
    {
        return Err(error(
            PgSqlErrorCode::ERRCODE_INVALID_NAME,
            format!("name of a template must have 1 to {MAX_NAME_BYTES} bytes and no braces or control characters"),
        ));
    }
    if body.len() > MAX_BODY_BYTES {
        return Err(invalid_parameter(format!("prompt template must have at most {MAX_BODY_BYTES} bytes")));
    }
    prompt::check_template(body).map_err(from_prompt)?;
    let existing = find(name)?;
    if existing.is_some() && !or_replace {
        return Err(error(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, format!("template \"{name}\" already exists"))
            .set_hint("Replace it with or_replace => true."));
    }
    if let Some((_, owner)) = existing {
        require_owner(name, &owner)?;
        let update = "UPDATE rag.prompt_template SET body = $2
                       WHERE name OPERATOR(pg_catalog.=) $1 AND owner OPERATOR(pg_catalog.=) $3::pg_catalog.name";
        return owner::as_extension_owner(|| {
            Spi::run_with_args(update, &[name.into(), body.into(), owner.into()]).or_error()
        });
    }
    // Of two sessions that create it at once, one fails by the primary key.
    let user = catalog::read_one::<String>("SELECT current_user::text", &[])?;
    let insert = "INSERT INTO rag.prompt_template (name, body, owner) VALUES ($1, $2, $3::pg_catalog.name)";
    owner::as_extension_owner(|| {
        Spi::run_with_args(insert, &[name.into(), body.into(), user.unwrap_or_default().into()]).or_error()
    })
}

#[pg_extern(sql = false)]
fn rag_drop_template(name: &str) -> Result<()> {
    require_writable(c"rag_drop_template()");
    let Some((_, owner)) = find(name)? else { return Err(undefined(name)) };
    require_owner(name, &owner)?;
    owner::as_extension_owner(|| {
        Spi::run_with_args("DELETE FROM rag.prompt_template WHERE name OPERATOR(pg_catalog.=) $1", &[name.into()])
            .or_error()
    })
}

/// Fails unless the current user is the owner, a member of it, or superuser.
fn require_owner(name: &str, owner: &str) -> Result<()> {
    let may = catalog::read_one::<bool>(
        "SELECT coalesce((SELECT pg_catalog.pg_has_role(r.oid, 'USAGE') FROM pg_catalog.pg_roles r
                           WHERE r.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name),
                         (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user))",
        &[owner.into()],
    )?;
    if may == Some(true) {
        return Ok(());
    }
    Err(error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("must be owner of template \"{name}\"")))
}
