//! PostgreSQL's lists.
#![allow(unsafe_code)]

use pgrx::pg_sys;

/// What a list points at.
///
/// # Safety
/// `list` is null, which is an empty list, or a valid list of pointers to `T`.
pub unsafe fn pointers<T>(list: *mut pg_sys::List) -> Vec<*mut T> {
    // SAFETY: the caller's promise: so many cells hold pointers.
    unsafe {
        let Some(list) = list.as_ref() else { return Vec::new() };
        let length = usize::try_from(list.length).unwrap_or(0);
        (0..length).map(|at| (*list.elements.add(at)).ptr_value.cast()).collect()
    }
}

/// The numbers of a list of them.
///
/// # Safety
/// `list` is null, which is an empty list, or a valid list of object ids.
pub unsafe fn oids(list: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: the caller's promise: so many cells hold object ids.
    unsafe {
        let Some(list) = list.as_ref() else { return Vec::new() };
        let length = usize::try_from(list.length).unwrap_or(0);
        (0..length).map(|at| (*list.elements.add(at)).oid_value).collect()
    }
}

/// A list of these pointers, in the current memory context.
pub fn list_of<T>(pointers: impl IntoIterator<Item = *mut T>) -> *mut pg_sys::List {
    let empty = std::ptr::null_mut();
    // SAFETY: appends to a list that was made here.
    pointers.into_iter().fold(empty, |list, pointer| unsafe { pg_sys::lappend(list, pointer.cast()) })
}
