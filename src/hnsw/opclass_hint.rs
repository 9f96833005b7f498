//! What can be indexed, as the hint of PostgreSQL's own error about a column without an operator class.
//!
//! PostgreSQL looks for the class itself and knows no hint but "you must specify one". Its hook for errors that are about to
//! be sent runs early enough to say more. The hook is set when the access method is used for the first time, so that the
//! `hnsw` of another extension, in another database, keeps its own messages.

use pgrx::{pg_guard, pg_sys};
use std::ffi::CStr;
use std::sync::OnceLock;

/// PostgreSQL's formats of the errors, which it has not translated yet.
const NO_DEFAULT: &CStr = c"data type %s has no default operator class for access method \"%s\"";
const NO_SUCH: &CStr = c"operator class \"%s\" does not exist for access method \"%s\"";

/// The classes that must be named, and the types that need not.
pub const HINT: &CStr = c"Vectors need an operator class, such as vector_cosine_ops, vector_ip_ops, vector_l2_ops or \
    vector_l1_ops (the same of halfvec and sparsevec), bit_hamming_ops or bit_jaccard_ops. Filter columns need none: they \
    may be of the types boolean, smallint, integer, bigint, real, double precision, numeric, text, character, name, uuid, \
    date, time without time zone, timestamp without time zone, timestamp with time zone, interval, inet, bytea and jsonb, \
    enums, and arrays.";

/// The hook that was there before.
static PREVIOUS: OnceLock<pg_sys::emit_log_hook_type> = OnceLock::new();

/// Sets the hook, once in a session.
pub fn init() {
    // SAFETY: the hook is a process-local variable, and PostgreSQL calls the access method on its only thread.
    let previous = unsafe { pg_sys::emit_log_hook };
    if PREVIOUS.set(previous).is_ok() {
        // SAFETY: as above.
        unsafe { pg_sys::emit_log_hook = Some(add_hint) };
    }
}

/// Adds the hint to the errors that it is for.
///
/// # Safety
/// Called by PostgreSQL with an error, in the memory context that the error is in.
#[pg_guard]
unsafe extern "C-unwind" fn add_hint(error: *mut pg_sys::ErrorData) {
    // SAFETY: the error is PostgreSQL's, its strings end with a zero; what replaces one lives as long as they do.
    unsafe {
        let about_class =
            matches!(text((*error).message_id), Some(format) if format == NO_DEFAULT || format == NO_SUCH);
        let names_ours = |message: &CStr| message.to_bytes().windows(4).any(|part| part == b"hnsw");
        if about_class && text((*error).message).is_some_and(names_ours) {
            (*error).hint = pg_sys::pstrdup(HINT.as_ptr());
        }
        if let Some(Some(previous)) = PREVIOUS.get() {
            previous(error);
        }
    }
}

/// # Safety
/// The pointer is NULL or to a string that ends with a zero and lives for long enough.
unsafe fn text<'s>(pointer: *const std::ffi::c_char) -> Option<&'s CStr> {
    // SAFETY: as the caller says.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) })
}
