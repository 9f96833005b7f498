//! What the client of a backend gets to see, and when.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

/// How messages leave a process; the same in PostgreSQL 15 to 18.
#[repr(C)]
struct Methods {
    comm_reset: unsafe extern "C-unwind" fn(),
    flush: unsafe extern "C-unwind" fn() -> i32,
    flush_if_writable: unsafe extern "C-unwind" fn() -> i32,
}

extern "C-unwind" {
    /// Those of this process: of its socket, or, in a parallel worker, of its leader's queue.
    static PqCommMethods: *const Methods;
}

/// Sends the rows that were returned so far, as far as the client takes them without waiting: they would lie in the backend until
/// there are 8 kB of them. Called by functions that return rows slowly, before they compute the next.
///
/// A lost connection is noticed at the next check for interrupts.
pub fn send_returned_rows() {
    // SAFETY: a process with a destination on the other side of a connection has its methods set; rows are sent as whole
    // messages, and none is being composed while a function runs.
    unsafe {
        if pg_sys::whereToSendOutput == pg_sys::CommandDest::DestRemote {
            pg_guard_ffi_boundary(|| ((*PqCommMethods).flush_if_writable)());
        }
    }
}
