//! Data that falls into parts, each of which a parallel loop may change on another thread.
//!
//! [`Pool::for_parts`](super::Pool::for_parts) hands every part out exactly once. Tuples fall into tuples of parts, so
//! a loop can write several slices at a time.
#![allow(unsafe_code)]

use std::marker::PhantomData;

/// What falls into parts.
///
/// # Safety
/// Parts of different numbers do not overlap, and live as long as the borrow that they were made from.
pub unsafe trait Parts: Sync {
    type Part;

    fn count(&self) -> usize;

    /// # Safety
    /// `index < self.count()`, and nobody takes the same part again.
    unsafe fn part(&self, index: usize) -> Self::Part;
}

/// Chunks of a slice; the last may be shorter.
pub struct Chunks<'a, T> {
    data: *mut T,
    len: usize,
    chunk_len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the chunks are handed out as exclusive borrows, each to one thread.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    pub fn new(data: &'a mut [T], chunk_len: usize) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), chunk_len: chunk_len.max(1), borrow: PhantomData }
    }
}

// SAFETY: chunks are disjoint ranges of one exclusive borrow.
unsafe impl<'a, T: Send> Parts for Chunks<'a, T> {
    type Part = &'a mut [T];

    fn count(&self) -> usize {
        self.len.div_ceil(self.chunk_len)
    }

    unsafe fn part(&self, index: usize) -> &'a mut [T] {
        let start = index * self.chunk_len;
        // SAFETY: `index` is below the count, so `start` is inside; nobody else has this range.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), self.chunk_len.min(self.len - start)) }
    }
}

/// Vertical strips of a row-major matrix.
pub struct Strips<'a> {
    data: *mut f32,
    rows: usize,
    stride: usize,
    columns: usize,
    strip_columns: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the strips are handed out as exclusive borrows, each to one thread.
unsafe impl Sync for Strips<'_> {}

impl<'a> Strips<'a> {
    /// The first `columns` columns of `rows` rows that are `stride` apart, in strips of `strip_columns`.
    pub fn new(data: &'a mut [f32], rows: usize, stride: usize, columns: usize, strip_columns: usize) -> Self {
        assert!(columns <= stride, "rows overlap");
        let needed = rows.checked_sub(1).map_or(Some(0), |rows| rows.checked_mul(stride)?.checked_add(columns));
        assert!(needed.is_some_and(|needed| needed <= data.len()), "matrix is smaller than its shape");
        let strip_columns = strip_columns.max(1);
        Self { data: data.as_mut_ptr(), rows, stride, columns, strip_columns, borrow: PhantomData }
    }
}

// SAFETY: strips have no column in common.
unsafe impl<'a> Parts for Strips<'a> {
    type Part = Strip<'a>;

    fn count(&self) -> usize {
        self.columns.div_ceil(self.strip_columns)
    }

    unsafe fn part(&self, index: usize) -> Strip<'a> {
        let start = index * self.strip_columns;
        let columns = self.strip_columns.min(self.columns - start);
        // SAFETY: `index` is below the count, so column `start` is inside the first row. (There may be no row at all.)
        let data = if self.rows == 0 { self.data } else { unsafe { self.data.add(start) } };
        Strip { data, rows: self.rows, stride: self.stride, columns, borrow: PhantomData }
    }
}

/// One strip: `rows × columns`, rows `stride` apart.
pub struct Strip<'a> {
    data: *mut f32,
    rows: usize,
    stride: usize,
    columns: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

impl Strip<'_> {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Columns `start..start + columns` of this strip.
    pub fn part(&mut self, start: usize, columns: usize) -> Strip<'_> {
        assert!(start + columns <= self.columns, "strip is narrower than its part");
        // SAFETY: the column is inside the strip, or the part is empty and the pointer at most behind the row.
        let data = if self.rows == 0 { self.data } else { unsafe { self.data.add(start) } };
        Strip { data, columns, borrow: PhantomData, ..*self }
    }

    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "strip has no row {row}");
        // SAFETY: the row is inside the matrix, and its columns of this strip are nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride), self.columns) }
    }

    /// Columns `start..start + columns` of rows `first..first + rows` as a pointer, for kernels, with the distance of
    /// rows. What lies between these columns belongs to others.
    pub fn window(&mut self, first: usize, rows: usize, start: usize, columns: usize) -> (*mut f32, usize) {
        assert!(first + rows <= self.rows && start + columns <= self.columns, "window is larger than the strip");
        // SAFETY: as asserted, the first element is inside, or the window is empty and the pointer at most behind it.
        (unsafe { self.data.add((first * self.stride) * usize::from(rows > 0) + start) }, self.stride)
    }
}

macro_rules! tuple_of_parts {
    ($($name:ident $field:tt),+) => {
        // SAFETY: parts of each member are disjoint.
        unsafe impl<$($name: Parts),+> Parts for ($($name,)+) {
            type Part = ($($name::Part,)+);

            fn count(&self) -> usize {
                let counts = [$(self.$field.count()),+];
                assert!(counts.iter().all(|count| *count == counts[0]), "parts do not correspond: {counts:?}");
                counts[0]
            }

            unsafe fn part(&self, index: usize) -> Self::Part {
                // SAFETY: all members have the same count, and the caller takes each part once.
                unsafe { ($(self.$field.part(index),)+) }
            }
        }
    };
}

tuple_of_parts!(A 0, B 1);
tuple_of_parts!(A 0, B 1, C 2);

#[cfg(test)]
mod tests {
    use super::super::Pool;
    use super::*;

    #[test]
    fn parts_of_tuples_correspond_and_cover_everything() {
        let pool = Pool::new(2).unwrap();
        let (mut numbers, mut letters, mut matrix) = ([0; 10], [' '; 5], [0.0; 3 * 12]);
        let parts =
            (Chunks::new(&mut numbers, 2), Chunks::new(&mut letters, 1), Strips::new(&mut matrix, 3, 12, 10, 2));
        pool.for_parts(parts, |index, (numbers, letters, mut strip)| {
            assert_eq!((numbers.len(), letters.len(), strip.rows(), strip.columns()), (2, 1, 3, 2));
            numbers.fill(index);
            letters[0] = 'x';
            (0..3).for_each(|row| strip.row_mut(row).fill(index as f32 + 1.0));
        });
        assert_eq!(numbers, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
        assert_eq!(letters, ['x'; 5]);
        for row in matrix.chunks(12) {
            assert_eq!(row, [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0, 0.0, 0.0]);
        }
    }

    #[test]
    #[should_panic(expected = "smaller than its shape")]
    fn a_matrix_that_is_too_small_is_refused() {
        Strips::new(&mut [0.0; 21], 3, 10, 2, 1);
    }
}
