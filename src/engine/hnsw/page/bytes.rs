//! Loads and stores of little-endian integers in pages, without a panic.
//!
//! Every offset is known to lie inside by the constants and [`super::Layout`], which are checked once. An offset outside
//! would be a bug of this module: tests stop there, a release loads 0 and stores nothing. With constant offsets into
//! arrays the check vanishes and a load is one instruction.

use super::PAGE_BYTES;

/// One page, PostgreSQL's header included.
pub type Page = [u8; PAGE_BYTES];

#[inline(always)]
fn load<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let found = bytes.get(offset..).and_then(|rest| rest.first_chunk::<N>());
    debug_assert!(found.is_some(), "load of {N} bytes at {offset} of {}", bytes.len());
    found.copied().unwrap_or([0; N])
}

#[inline(always)]
fn store<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) {
    let place = bytes.get_mut(offset..).and_then(|rest| rest.first_chunk_mut::<N>());
    debug_assert!(place.is_some(), "store of {N} bytes at {offset}");
    if let Some(place) = place {
        *place = value;
    }
}

macro_rules! integers {
    ($($get:ident, $put:ident, $type:ty;)*) => {$(
        #[inline(always)]
        pub(super) fn $get(bytes: &[u8], offset: usize) -> $type {
            <$type>::from_le_bytes(load(bytes, offset))
        }

        #[inline(always)]
        pub(super) fn $put(bytes: &mut [u8], offset: usize, value: $type) {
            store(bytes, offset, value.to_le_bytes());
        }
    )*};
}

integers! {
    get_u8, put_u8, u8;
    get_u16, put_u16, u16;
    get_u32, put_u32, u32;
    get_u64, put_u64, u64;
    get_f32, put_f32, f32;
}

/// The offset of the first byte in `start..end` that is not zero.
pub(super) fn first_non_zero(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    static ZEROS: Page = [0; PAGE_BYTES];
    let part = bytes.get(start..end)?;
    // Almost always all of them are zero, which one comparison says.
    if ZEROS.get(..part.len()) == Some(part) {
        return None;
    }
    part.iter().position(|&byte| byte != 0).map(|at| start + at)
}
