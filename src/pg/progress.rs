//! Progress of CREATE INDEX, as `pg_stat_progress_create_index` shows it.

use pgrx::pg_sys;

fn update(parameter: u32, value: i64) {
    // SAFETY: without a command that reports, nothing happens.
    unsafe { pg_sys::pgstat_progress_update_param(parameter as i32, value) }
}

/// The phase, one of the access method's.
pub fn phase(phase: i64) {
    update(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, phase);
}

/// Rows that there will be.
pub fn tuples_total(rows: i64) {
    update(pg_sys::PROGRESS_CREATEIDX_TUPLES_TOTAL, rows);
}

/// Rows that were loaded.
pub fn tuples_done(rows: i64) {
    update(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, rows);
}
