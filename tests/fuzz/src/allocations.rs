//! The process's memory, counted, so that a number on a damaged page that is taken for a size is noticed at once: libFuzzer
//! itself looks at it once a second.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// More than any input of any target needs, libFuzzer's own memory included.
pub const LIMIT_BYTES: usize = 512 << 20;

static IN_USE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a limit.
struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

fn take(bytes: usize) {
    let before = IN_USE_BYTES.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) > LIMIT_BYTES {
        // The message of a panic needs memory, too: none is refused while the process ends.
        IN_USE_BYTES.store(0, Ordering::Relaxed);
        eprintln!("{bytes} bytes more than the {before} in use are too many");
        std::process::abort();
    }
}

// SAFETY: all is done by the system's allocator; the count changes no address.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        IN_USE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(address, layout) }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        take(new_size);
        IN_USE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(address, layout, new_size) }
    }
}
