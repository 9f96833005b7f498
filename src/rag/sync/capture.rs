//! The function of the triggers on source tables: which rows an index has to look at again.
//!
//! It runs in the writer's statement, so it does nothing but read the transition tables: a row whose text, template columns
//! and key are unchanged is not noted. Old and new rows of an UPDATE come in pairs; where they should not (a row that a
//! trigger of the target partition has suppressed), keys differ within the pairs, and both are noted.

use crate::error::{error, Result};
use crate::pg::settings::with_portable_texts;
use crate::pg::trigger::{Column, Event, IntegerRow, Row, TransitionRows, TriggerCall};
use crate::rag::refresh::array_text;
use crate::rag::sync::watched::{self, Watch};
use crate::rag::sync::{changes, immediate};
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use pgrx::{pg_sys, PgSqlErrorCode};

/// PostgreSQL calls it after each statement, or for each row that logical replication applies.
// SAFETY: the name is the extension's own; PostgreSQL looks the function up by it.
#[allow(unsafe_code)]
#[no_mangle]
#[pg_guard]
pub extern "C-unwind" fn pg_rag_note_change(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: what PostgreSQL called this function with.
    let call = unsafe { TriggerCall::of(call) };
    let not_a_trigger =
        || error(PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED, "rag.note_change() is for triggers");
    call.ok_or_else(not_a_trigger).and_then(|call| note(&call)).unwrap_or_report();
    pg_sys::Datum::null()
}

/// PostgreSQL's calling convention of [`pg_rag_note_change`].
// SAFETY: as above.
#[allow(unsafe_code)]
#[no_mangle]
pub extern "C" fn pg_finfo_pg_rag_note_change() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

fn note(call: &TriggerCall) -> Result<()> {
    let watches = watched::of(call.relation_oid())?;
    // All keys are read before anything is done with them: what an immediate index does may come back here.
    let mut noted = Vec::new();
    for watch in watches.borrow_mut().iter_mut() {
        let keys = match (call.event(), watch.depends_on_settings) {
            (Event::Truncate, _) => Vec::new(),
            (_, false) => changed_keys(call, watch),
            (_, true) => with_portable_texts(|| changed_keys(call, watch)),
        };
        noted.push((watch.view, watch.is_immediate, keys));
    }
    for (view, is_immediate, keys) in noted {
        match (call.event(), is_immediate) {
            (Event::Truncate, false) => changes::request_sweep(view),
            (Event::Truncate, true) => immediate::remove_orphans(view)?,
            (_, false) => changes::note(view, keys),
            (_, true) => immediate::apply(view, &keys)?,
        }
    }
    Ok(())
}

fn changed_keys(call: &TriggerCall, watch: &mut Watch) -> Vec<String> {
    let mut keys = Vec::new();
    if call.is_for_row() {
        let (old, new) = call.row();
        add(watch, old, new, &mut keys);
        return keys;
    }
    let (mut old_rows, mut new_rows) = (call.old_rows(), call.new_rows());
    if let (None, Some(rows)) | (Some(rows), None) = (&mut old_rows, &mut new_rows) {
        if let [key] = &watch.keys[..] {
            if key.is_integer() {
                return integer_keys(rows, key, watch.texts[0].number, call.event() == Event::Insert);
            }
        }
    }
    loop {
        let old = old_rows.as_mut().and_then(TransitionRows::next);
        let new = new_rows.as_mut().and_then(TransitionRows::next);
        if old.is_none() && new.is_none() {
            return keys;
        }
        pgrx::check_for_interrupts!();
        add(watch, old, new, &mut keys);
    }
}

/// The keys of all rows, where they are integers: most tables have such, and most rows come by INSERT.
fn integer_keys(rows: &mut TransitionRows, key: &Column, text: i16, are_new: bool) -> Vec<String> {
    let mut keys = Vec::new();
    let mut batch = [IntegerRow::default(); 256];
    loop {
        let read = rows.read_integers(key, text, &mut batch);
        // A row that has no text has no chunks either; one that had none may have some from before.
        let noted = batch[..read].iter().filter(|row| !(are_new && row.is_null));
        keys.extend(noted.map(|row| integer_key(row.integer)));
        if read < batch.len() {
            return keys;
        }
        pgrx::check_for_interrupts!();
    }
}

/// `{7}`, as [`key_of`] writes it, without the formatting machinery: this is most of what the trigger itself costs.
fn integer_key(integer: i64) -> String {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(integer);
    let mut key = String::with_capacity(digits.len() + 2);
    key.push('{');
    key.push_str(digits);
    key.push('}');
    key
}

/// Adds the keys that a change of one row makes stale.
fn add(watch: &mut Watch, old: Option<Row>, new: Option<Row>, keys: &mut Vec<String>) {
    match (old, new) {
        (Some(old), Some(new)) => {
            let same_key = watch.keys.iter().all(|column| is_same(column, old, new));
            if same_key && watch.texts.iter().all(|column| is_same(column, old, new)) {
                return;
            }
            if !same_key {
                keys.push(key_of(watch, old));
            }
            keys.push(key_of(watch, new));
        }
        (Some(row), None) => keys.push(key_of(watch, row)),
        // A row that has no text has no chunks either.
        (None, Some(row)) if row.value(watch.texts[0].number).is_none() => {}
        (None, Some(row)) => keys.push(key_of(watch, row)),
        (None, None) => {}
    }
}

#[allow(unsafe_code)]
fn is_same(column: &Column, old: Row, new: Row) -> bool {
    // SAFETY: the values are of this column of the trigger's table.
    unsafe { column.is_same(old.value(column.number), new.value(column.number)) }
}

/// A key as the text of an array, `{"1","x"}`: what `rag.change` and the worker's statements take.
#[allow(unsafe_code)]
fn key_of(watch: &mut Watch, row: Row) -> String {
    // Columns of a primary key are never NULL.
    let values = watch.keys.iter_mut().filter_map(|column| {
        let value = row.value(column.number)?;
        // SAFETY: the value is of this column of the trigger's table.
        Some(unsafe { column.text(value) })
    });
    array_text(&values.collect::<Vec<_>>())
}
