//! Values of type `text[]`, made in one go: pgrx makes an array text by text, with an allocation for each.

use pgrx::pg_sys;

/// Bytes of the length before a text.
const HEADER_BYTES: usize = size_of::<u32>();

/// An array of one dimension, allocated in the current memory context. Texts are in the server's encoding, as a backend's
/// strings are.
pub fn text_array(texts: &[String]) -> pg_sys::Datum {
    let words_of = |text: &String| (HEADER_BYTES + text.len()).div_ceil(size_of::<u32>());
    let mut words = vec![0_u32; texts.iter().map(words_of).sum()];
    let mut rest = &mut words[..];
    let mut elements = Vec::with_capacity(texts.len());
    for text in texts {
        let (place, others) = rest.split_at_mut(words_of(text));
        rest = others;
        let start = place.as_mut_ptr().cast::<u8>();
        // SAFETY: the place has room for the header and the bytes behind it, and is aligned as a header is.
        unsafe {
            pgrx::set_varsize_4b(start.cast(), (HEADER_BYTES + text.len()) as i32);
            start.add(HEADER_BYTES).copy_from_nonoverlapping(text.as_ptr(), text.len());
        }
        elements.push(pg_sys::Datum::from(start));
    }
    // SAFETY: the elements are datums of `text`, which are alive until they have been copied into the array.
    unsafe {
        let array = pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as i32,
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as std::ffi::c_char,
        );
        pg_sys::Datum::from(array)
    }
}
