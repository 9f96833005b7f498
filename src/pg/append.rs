//! Adding rows to a table that has no index, no trigger and no generated column: a heap insertion and nothing else.

use pgrx::pg_sys;
use std::ffi::CStr;

/// A table that is open for adding rows.
pub struct Appender {
    relation: pg_sys::Relation,
}

/// The table `name` in `schema`.
pub fn find_table(schema: &CStr, name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: look-ups in PostgreSQL's caches with NUL-terminated names.
    let table = unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(schema.as_ptr(), true)) };
    (table != pg_sys::InvalidOid).then_some(table)
}

impl Appender {
    /// Opens the table. No rights are checked: what is written comes from the extension itself.
    pub fn open(table: pg_sys::Oid) -> Self {
        // SAFETY: an oid that is no table raises an error.
        let relation = unsafe { pg_sys::table_open(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
        Self { relation }
    }

    /// Adds a row without NULLs.
    ///
    /// # Safety
    /// The values are those of the table's columns, all of them, in order.
    pub unsafe fn append(&self, values: &mut [pg_sys::Datum]) {
        let mut nulls = vec![false; values.len()];
        // SAFETY: the caller's promise; the relation is open. The row is copied into the table and freed.
        unsafe {
            let row = pg_sys::heap_form_tuple((*self.relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::simple_heap_insert(self.relation, row);
            pg_sys::heap_freetuple(row);
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        // While an error unwinds, the transaction's end closes the relation.
        if !std::thread::panicking() {
            // SAFETY: opened by `open`, closed once; the lock stays until the transaction ends.
            unsafe { pg_sys::table_close(self.relation, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}
