//! From the bitmap that index scans have made to a mask.

use pg_rag_engine::hnsw::filter::RowMask;
use pgrx::pg_sys;

/// The rows of a bitmap.
///
/// # Safety
/// The bitmap is valid, and nobody is reading it.
pub unsafe fn mask_of(bitmap: *mut pg_sys::TIDBitmap) -> RowMask {
    let mut mask = RowMask::default();
    // SAFETY: the caller's promise; an entry lives until the next one is asked for.
    unsafe {
        each_block(bitmap, |block, offsets| match offsets {
            Some(offsets) => mask.add_rows(block, offsets),
            None => mask.add_block(block),
        });
    }
    mask
}

/// Calls `take` with every block of a bitmap and its offsets; None if the bitmap knows only the block.
#[cfg(not(feature = "pg18"))]
unsafe fn each_block(bitmap: *mut pg_sys::TIDBitmap, mut take: impl FnMut(u32, Option<&[u16]>)) {
    // SAFETY: the caller's promise; there are as many offsets as the entry says.
    unsafe {
        let iterator = pg_sys::tbm_begin_iterate(bitmap);
        while let Some(entry) = pg_sys::tbm_iterate(iterator).as_ref() {
            match usize::try_from(entry.ntuples) {
                Ok(count) => take(entry.blockno, Some(entry.offsets.as_slice(count))),
                Err(_) => take(entry.blockno, None),
            }
        }
        pg_sys::tbm_end_iterate(iterator);
    }
}

/// Calls `take` with every block of a bitmap and its offsets; None if the bitmap knows only the block.
#[cfg(feature = "pg18")]
unsafe fn each_block(bitmap: *mut pg_sys::TIDBitmap, mut take: impl FnMut(u32, Option<&[u16]>)) {
    let mut offsets = [0u16; pg_sys::MaxOffsetNumber as usize];
    // SAFETY: the caller's promise; the entry is written before it is read, the offsets have room.
    unsafe {
        let iterator = pg_sys::tbm_begin_private_iterate(bitmap);
        let mut entry = pg_sys::TBMIterateResult::default();
        while pg_sys::tbm_private_iterate(iterator, &mut entry) {
            if entry.lossy {
                take(entry.blockno, None);
                continue;
            }
            let count = pg_sys::tbm_extract_page_tuple(&mut entry, offsets.as_mut_ptr(), offsets.len() as u32);
            take(entry.blockno, offsets.get(..usize::try_from(count).unwrap_or(0)));
        }
        pg_sys::tbm_end_private_iterate(iterator);
    }
}
