//! Waiting without becoming deaf: every wait of a backend ends at once on cancel, `statement_timeout`,
//! `pg_terminate_backend` and the death of the postmaster.

use pgrx::{check_for_interrupts, pg_sys};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What a socket should be ready for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    Read,
    Write,
}

/// Waits until `socket` is ready or `timeout` has passed (`None`: for ever).
///
/// Interrupts are serviced inside: a cancelled query leaves this function by unwinding. Holds no lock.
pub fn wait_for_socket(socket: BorrowedFd<'_>, readiness: Readiness, timeout: Option<Duration>) {
    let event = match readiness {
        Readiness::Read => pg_sys::WL_SOCKET_READABLE,
        Readiness::Write => pg_sys::WL_SOCKET_WRITEABLE,
    };
    wait(event, socket.as_raw_fd(), timeout);
}

/// Sleeps for `duration`, or until the process' latch is set. Interrupts are serviced inside.
pub fn sleep(duration: Duration) {
    wait(0, pg_sys::PGINVALID_SOCKET, Some(duration));
}

fn wait(event: u32, socket: i32, timeout: Option<Duration>) {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | event;
    let mut timeout_ms = -1;
    if let Some(timeout) = timeout {
        events |= pg_sys::WL_TIMEOUT;
        timeout_ms = timeout.as_millis().min(i32::MAX as u128) as i64;
    }
    // SAFETY: `MyLatch` is this process' own latch, valid from process start to exit; the socket, if any, is borrowed
    // for the call. Only the main thread of a backend gets here (pgrx checks it at the call).
    unsafe {
        pg_sys::WaitLatchOrSocket(pg_sys::MyLatch, events as i32, socket, timeout_ms, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_for_interrupts!();
}
