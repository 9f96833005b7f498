//! Nothing outside the slices is accessed: they lie against an unmapped page on either side.
#![allow(unsafe_code)]

use std::ptr::null_mut;
use std::slice;

use half::f16;

use super::*;

/// A page of zeros between two that cannot be accessed.
struct Guarded {
    map: *mut u8,
    page: usize,
}

impl Guarded {
    fn new() -> Guarded {
        // SAFETY: a new mapping of three pages, of which the middle one is then opened.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let map = libc::mmap(null_mut(), 3 * page, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            let map = map.cast::<u8>();
            assert_eq!(libc::mprotect(map.add(page).cast(), page, libc::PROT_READ | libc::PROT_WRITE), 0);
            Guarded { map, page }
        }
    }

    /// `length` elements against the page before, and against the page after.
    fn slices<E>(&mut self, length: usize) -> [&mut [E]; 2] {
        let bytes = length * size_of::<E>();
        assert!(2 * bytes <= self.page);
        // SAFETY: both lie in the open page and do not overlap; zeros are valid elements of the types used; page ends
        // are aligned for any of them.
        unsafe {
            let start = self.map.add(self.page);
            let end = start.add(self.page - bytes);
            [slice::from_raw_parts_mut(start.cast(), length), slice::from_raw_parts_mut(end.cast(), length)]
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`.
        unsafe { libc::munmap(self.map.cast(), 3 * self.page) };
    }
}

fn sums_stay_inside<E: Tested>() {
    let mut memory = Guarded::new();
    for length in 0..=130 {
        let values: Vec<E> = elements(6, length);
        for slice in memory.slices::<E>(length) {
            slice.copy_from_slice(&values);
            for (_, table) in tables::<E>() {
                assert_eq!((table.l2_squared)(slice, &values), 0.0);
                assert_eq!((table.l1)(&values, slice), 0.0);
                assert_eq!((table.inner_product)(slice, slice), (table.inner_product)(&values, &values));
                let distance = (table.cosine)(slice, &values);
                assert!(distance.abs() < 1e-6 || length == 0);
            }
        }
    }
}

#[test]
fn sums_stay_inside_the_slices() {
    sums_stay_inside::<f32>();
    sums_stay_inside::<f16>();
}

#[test]
fn counts_stay_inside_the_slices() {
    let mut memory = Guarded::new();
    for length in 0..=300 {
        for slice in memory.slices::<u8>(length) {
            slice.fill(0x81);
            for set in InstructionSet::available() {
                assert_eq!((set.bit_kernels().hamming)(slice, &vec![0; length]), 2 * length as u64);
                assert_eq!((set.bit_kernels().jaccard)(slice, slice), if length == 0 { 1.0 } else { 0.0 });
            }
        }
    }
}

#[test]
fn conversions_stay_inside_the_slices() {
    let (mut narrow, mut wide) = (Guarded::new(), Guarded::new());
    for length in 0..=130 {
        for set in InstructionSet::available() {
            for (halves, singles) in narrow.slices::<f16>(length).into_iter().zip(wide.slices::<f32>(length)) {
                halves.copy_from_slice(&elements::<f16>(7, length));
                (set.conversion_kernels().widen)(halves, singles);
                (set.conversion_kernels().narrow)(singles, halves);
                assert_eq!(halves, elements::<f16>(7, length));
            }
        }
    }
}
