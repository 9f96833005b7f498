//! Which indexes watch a table, and which of its columns: looked up once per backend and table, since triggers ask for each
//! statement.

use crate::error::{OrError, Result};
use crate::pg::append::find_table;
use crate::pg::invalidation;
use crate::pg::trigger::Column;
use crate::pg::{owner, snapshot};
use crate::rag::catalog;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// What an index watches of a table.
pub struct Watch {
    /// The index.
    pub view: pg_sys::Oid,
    /// Whether the writer's statement does all the work.
    pub is_immediate: bool,
    pub keys: Vec<Column>,
    /// The text, then the other columns that decide what the chunks of a row are, or whether it has any.
    pub texts: Vec<Column>,
    /// Whether the text of a key depends on settings.
    pub depends_on_settings: bool,
}

type Watches = Rc<RefCell<Vec<Watch>>>;

thread_local! {
    static CACHE: RefCell<HashMap<pg_sys::Oid, Watches>> = RefCell::default();
    /// `rag.sync`, whose invalidation says that some index has changed.
    static CATALOG: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
    static IS_STALE: Cell<bool> = const { Cell::new(false) };
}

/// Starts to notice changes of tables. Called once, from `_PG_init`.
pub fn init() {
    invalidation::listen(on_invalidation);
}

fn on_invalidation(relation: pg_sys::Oid) {
    let concerns = relation == pg_sys::InvalidOid
        || relation == CATALOG.get()
        || CACHE.with(|cache| cache.try_borrow().map_or(true, |cache| cache.contains_key(&relation)));
    if concerns {
        IS_STALE.set(true);
    }
}

/// Tells all backends, at commit, that indexes were made, changed or dropped.
pub fn announce() {
    if let Some(catalog) = find_table(c"rag", c"sync") {
        invalidation::announce(catalog);
    }
}

/// The indexes over `relation`, or over a partitioned table that it is a part of.
pub fn of(relation: pg_sys::Oid) -> Result<Watches> {
    if IS_STALE.replace(false) {
        CACHE.with_borrow_mut(HashMap::clear);
    }
    if let Some(watches) = CACHE.with_borrow(|cache| cache.get(&relation).cloned()) {
        return Ok(watches);
    }
    // What is read is kept until somebody announces a change, so it must not be older than what was announced already.
    let watches = Rc::new(RefCell::new(snapshot::with_latest(|| read(relation))?));
    if let Some(catalog) = find_table(c"rag", c"sync") {
        CATALOG.set(catalog);
    }
    CACHE.with_borrow_mut(|cache| cache.insert(relation, Rc::clone(&watches)));
    Ok(watches)
}

fn read(relation: pg_sys::Oid) -> Result<Vec<Watch>> {
    let rows = owner::as_extension_owner(|| {
        Spi::connect(|client| {
            let rows = client
                .select(
                    "SELECT i.index::pg_catalog.oid, y.mode OPERATOR(pg_catalog.=) 'immediate'
                       FROM rag.index i JOIN rag.sync y ON y.index OPERATOR(pg_catalog.=) i.index
                      WHERE y.mode OPERATOR(pg_catalog.<>) 'manual'
                        AND i.source OPERATOR(pg_catalog.=) ANY (
                            ARRAY(SELECT a.relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors($1) a)
                            OPERATOR(pg_catalog.||) $1)
                      ORDER BY 1",
                    None,
                    &[relation.into()],
                )
                .or_error()?;
            rows.into_iter()
                .map(|row| {
                    let view = row.get::<pg_sys::Oid>(1).or_error()?.unwrap_or(pg_sys::InvalidOid);
                    Ok((view, row.get::<bool>(2).or_error()?.unwrap_or_default()))
                })
                .collect::<Result<Vec<_>>>()
        })
    })?;
    let mut watches = Vec::with_capacity(rows.len());
    for (view, is_immediate) in rows {
        // One whose chunk table is gone is about to go, too.
        let Ok(index) = owner::as_extension_owner(|| catalog::find(view)) else { continue };
        let (keys, named) = (index.key_columns.clone(), index.watched_columns()?);
        // A column that is not there any more makes the index fail when it is worked on, not the writer.
        let columns = |names: &[String]| names.iter().filter_map(|name| Column::of(relation, name)).collect::<Vec<_>>();
        let (keys, texts) = (columns(&keys), columns(&named));
        if !keys.is_empty() && !texts.is_empty() {
            let depends_on_settings = keys.iter().any(|key| key.depends_on_settings);
            watches.push(Watch { view, is_immediate, keys, texts, depends_on_settings });
        }
    }
    Ok(watches)
}
