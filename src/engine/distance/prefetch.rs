//! Hints to the cache, for callers that know which vector comes next.
#![allow(unsafe_code)]

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// The most that is fetched: the first-level cache holds some 32 KB.
const MAX_BYTES: usize = 4096;

/// Starts to load `bytes` from `start` on into the cache. Any address will do: what is not mapped is not loaded.
#[inline(always)]
pub fn prefetch(start: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes.min(MAX_BYTES)).step_by(LINE_BYTES) {
        // SAFETY: a prefetch reads nothing that the program can see and never faults.
        unsafe {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes.min(MAX_BYTES) / LINE_BYTES);
}
