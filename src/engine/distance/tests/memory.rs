//! Nothing outside the slices is accessed: they lie against an unmapped page on either side, or Miri watches their bounds.
#![allow(unsafe_code)]

use half::f16;

#[cfg(miri)]
use self::watched::Guarded;
use super::*;
use crate::test_scale::scaled;

/// Slices that are allocations of their own: Miri sees an access outside them.
#[cfg(miri)]
mod watched {
    use std::any::Any;

    pub(super) struct Guarded([Box<dyn Any>; 2]);

    impl Guarded {
        pub(super) fn new() -> Guarded {
            Guarded([Box::new(()), Box::new(())])
        }

        pub(super) fn slices<E: Clone + Default + 'static>(&mut self, length: usize) -> [&mut [E]; 2] {
            self.0 = [(); 2].map(|()| -> Box<dyn Any> { Box::new(vec![E::default(); length]) });
            self.0.each_mut().map(|slice| slice.downcast_mut::<Vec<E>>().unwrap().as_mut_slice())
        }
    }
}

/// A page of zeros between two that cannot be accessed.
#[cfg(not(miri))]
struct Guarded {
    map: *mut u8,
    page: usize,
}

#[cfg(not(miri))]
impl Guarded {
    fn new() -> Guarded {
        // SAFETY: a new mapping of three pages, of which the middle one is then opened.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let map = libc::mmap(
                std::ptr::null_mut(),
                3 * page,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
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
            [std::slice::from_raw_parts_mut(start.cast(), length), std::slice::from_raw_parts_mut(end.cast(), length)]
        }
    }
}

#[cfg(not(miri))]
impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`.
        unsafe { libc::munmap(self.map.cast(), 3 * self.page) };
    }
}

fn sums_stay_inside<E: Tested + Default>() {
    let mut memory = Guarded::new();
    for length in (0..=130).step_by(scaled(1, 9)) {
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
    for length in (0..=300).step_by(scaled(1, 13)) {
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
    for length in (0..=130).step_by(scaled(1, 9)) {
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
