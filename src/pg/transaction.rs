//! Transactions of a background worker, whose errors come back as values, and what a worker needs besides.

use crate::error::Result;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportable};
use pgrx::{pg_sys, PgSqlErrorCode, PgTryBuilder};
use std::ffi::CString;
use std::panic::AssertUnwindSafe;

/// An error that was caught. Unlike the errors of `crate::error`, which can only be raised, it tells what it is.
#[derive(Debug)]
pub struct Fault {
    pub code: PgSqlErrorCode,
    pub message: String,
}

/// Runs `work` in a transaction of its own and commits it. An error, also one that PostgreSQL raises, aborts the
/// transaction and is returned. The process must be a background worker outside of any transaction.
pub fn run<R>(work: impl FnOnce() -> Result<R>) -> std::result::Result<R, Fault> {
    catch(|| {
        // SAFETY: outside of a transaction, as the caller promises; what is begun is ended below or aborted by `catch`.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let result = work()?;
        // SAFETY: the snapshot was pushed above, and the transaction is in progress.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(result)
    })
}

/// Runs `work`, which may begin a transaction; if it fails, whatever was begun is aborted.
pub fn catch<R>(work: impl FnOnce() -> Result<R>) -> std::result::Result<R, Fault> {
    // Errors that are values are raised here, so that all of them are caught in one form.
    let raising = || Ok(work().unwrap_or_report());
    let result = PgTryBuilder::new(AssertUnwindSafe(raising))
        .catch_others(|caught| Err(fault_of(&caught)))
        .catch_rust_panic(|caught| Err(fault_of(&caught)))
        .execute();
    if result.is_err() {
        // SAFETY: allowed in any state of a transaction, and without one.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    result
}

fn fault_of(caught: &CaughtError) -> Fault {
    let report = match caught {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    };
    // Without the detail, which may quote the row.
    Fault { code: report.sql_error_code(), message: report.message().to_owned() }
}

/// SIGTERM ends the process at its next look at interrupts, as it ends a session.
unsafe extern "C-unwind" fn on_terminate(_signal: i32) {
    // SAFETY: what a signal handler may do: flags of this process, and its own latch.
    unsafe {
        (&raw mut pg_sys::ProcDiePending).write_volatile(1);
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

unsafe extern "C-unwind" fn on_reload(_signal: i32) {
    // SAFETY: as above.
    unsafe {
        (&raw mut pg_sys::ConfigReloadPending).write_volatile(1);
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}

/// Connects this background worker to a database, as the superuser that PostgreSQL was made with, and lets SIGTERM end it
/// at the next look at interrupts. Ends the process if the database does not exist.
pub fn connect_worker(database: pg_sys::Oid) {
    // SAFETY: called once, first thing in a background worker; the handlers are the ones above.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        {
            pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(on_terminate));
            pg_sys::pqsignal(pg_sys::SIGHUP as i32, Some(on_reload));
        }
        #[cfg(feature = "pg18")]
        {
            pg_sys::pqsignal_be(pg_sys::SIGTERM as i32, Some(on_terminate));
            pg_sys::pqsignal_be(pg_sys::SIGHUP as i32, Some(on_reload));
        }
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
}

/// Reads the configuration again if SIGHUP asked for it.
pub fn reload_settings_if_asked() {
    // SAFETY: a flag of this process, set by its signal handler.
    unsafe {
        if pg_sys::ConfigReloadPending != 0 {
            pg_sys::ConfigReloadPending = 0;
            crate::pg::settings::reload();
        }
    }
}

/// Sets a setting for the rest of the session.
pub fn set(name: &str, value: &str) {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return };
    // SAFETY: both strings are NUL-terminated and copied.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
        );
    }
}

/// What `pg_stat_activity` shows of this process: a text while it works, nothing while it waits.
pub fn show_activity(activity: Option<&str>) {
    let text = activity.and_then(|text| CString::new(text).ok());
    // SAFETY: the text is copied.
    unsafe {
        match &text {
            Some(text) => pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()),
            None => pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null()),
        }
    }
}

/// Sends the counters of tables that this process has changed, which autovacuum goes by.
pub fn report_statistics() {
    // SAFETY: outside of a transaction.
    unsafe {
        pg_sys::pgstat_report_stat(false);
    }
}

/// Ends the process with an exit code; 0 means that PostgreSQL shall not start it again.
pub fn exit(code: i32) -> ! {
    // SAFETY: runs PostgreSQL's own clean-up and does not return.
    unsafe { pg_sys::proc_exit(code) }
}

/// Whether this is a standby that replays.
pub fn is_in_recovery() -> bool {
    // SAFETY: reads shared state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Whether every statement of the transaction sees the same snapshot.
pub fn has_fixed_snapshot() -> bool {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}
