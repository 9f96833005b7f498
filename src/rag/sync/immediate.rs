//! Mode `immediate`: the writer's statement brings the index up to date for its own rows, or fails.
//!
//! The work is done with the rights of the index' owner, so writers need none on the chunk table, as they need none on an
//! index of PostgreSQL.

use crate::error::Result;
use crate::models::catalog as models;
use crate::pg::object_lock::Mode;
use crate::pg::owner;
use crate::rag::catalog::{self, Index};
use crate::rag::refresh::{self, Statements, Summarize};
use crate::rag::sync::state;
use pgrx::pg_sys;

/// Rows that are cut and embedded together.
const BATCH: usize = 32;

/// Brings the rows with these keys up to date.
pub fn apply(view: pg_sys::Oid, keys: &[String]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    as_owner(view, |index, statements| {
        let model = models::embedding(Some(&index.model))?;
        for keys in keys.chunks(BATCH) {
            let read = statements.read(keys, false)?;
            statements.delete(read.gone)?;
            refresh::process(index, &model, statements, &read.stale, Summarize::Now)?;
        }
        Ok(())
    })
}

/// Removes the chunks of rows that are gone.
pub fn remove_orphans(view: pg_sys::Oid) -> Result<()> {
    as_owner(view, |_, statements| statements.remove_orphans().map(drop))
}

fn as_owner(view: pg_sys::Oid, work: impl FnOnce(&Index, &Statements<'_>) -> Result<()>) -> Result<()> {
    state::lock(view, Mode::Shared, true);
    // Looked up under the lock: the worker may have put other chunks behind the index before.
    let index = catalog::find(view)?;
    owner::as_restricted_user(owner::owner_of(&index.chunks)?, || work(&index, &Statements::new(&index)?))
}
