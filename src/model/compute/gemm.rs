//! Dense f32 matrix product, the workhorse of prefill and of the encoder.
//!
//! A safe front of the `gemm` crate, which packs, blocks and dispatches to the CPU's vector instructions by itself.
//! Weights are stored as models store them, one row per output, so the product is `y = a · wᵀ`.
#![allow(unsafe_code)]

use super::Pool;

/// `y = a · wᵀ`: `a` is `m × k`, `w` is `n × k`, `y` is `m × n`, all row major and without gaps.
///
/// Runs on the threads of `pool`. Panics if a slice does not have exactly the length that its shape says, which is a
/// bug of the caller: shapes come from a validated model.
pub fn gemm(pool: &Pool, m: usize, n: usize, k: usize, a: &[f32], w: &[f32], y: &mut [f32]) {
    gemm_strided(pool, m, n, k, a, w, y, n);
}

/// [`gemm`] into a window of a wider matrix: row `i` of the product goes to `y[i * y_stride..][..n]`.
///
/// Lets a caller compute a panel of columns at a time. Panics if a slice is too short or `y_stride < n`.
#[allow(clippy::too_many_arguments)]
pub fn gemm_strided(pool: &Pool, m: usize, n: usize, k: usize, a: &[f32], w: &[f32], y: &mut [f32], y_stride: usize) {
    if m == 0 || n == 0 {
        return;
    }
    assert_eq!(Some(a.len()), m.checked_mul(k), "left operand is not m × k");
    assert_eq!(Some(w.len()), n.checked_mul(k), "right operand is not n × k");
    assert!(y_stride >= n, "rows of the result overlap");
    let needed = (m - 1).checked_mul(y_stride).and_then(|length| length.checked_add(n));
    assert!(needed.is_some_and(|needed| y.len() >= needed), "result does not hold m rows");
    let parallelism = match pool.threads() {
        1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    pool.enter(move || {
        // SAFETY: the asserts above keep every element inside its slice: `a[i*k + l]` for i < m, l < k;
        // `w[j*k + l]` for j < n; `y[i*y_stride + j]`. `y` is borrowed exclusively, so it cannot overlap the operands.
        // Slices are at most isize::MAX bytes long, so the strides fit into isize.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                y.as_mut_ptr(),
                1,
                y_stride as isize,
                false,
                a.as_ptr(),
                1,
                k as isize,
                w.as_ptr(),
                k as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count as u32).map(|i| ((i.wrapping_mul(2654435761) ^ seed) >> 16) as f32 / 32768.0 - 1.0).collect()
    }

    fn naive(m: usize, n: usize, k: usize, a: &[f32], w: &[f32]) -> Vec<f32> {
        let dot = |i: usize, j: usize| (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(w[j * k + l])).sum::<f64>();
        (0..m * n).map(|index| dot(index / n, index % n) as f32).collect()
    }

    #[test]
    fn product_equals_naive_loop_for_odd_shapes() {
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads).unwrap();
            for (m, n, k) in [(1, 1, 1), (1, 65, 33), (3, 5, 7), (17, 31, 64), (129, 100, 77), (256, 192, 384)] {
                let (a, w) = (numbers(m * k, 1), numbers(n * k, 2));
                let mut y = vec![f32::NAN; m * n];
                gemm(&pool, m, n, k, &a, &w, &mut y);
                for (got, want) in y.iter().zip(naive(m, n, k, &a, &w)) {
                    assert!((got - want).abs() < 1e-3, "{m}x{n}x{k}, {threads} threads: {got} != {want}");
                }
            }
        }
    }

    #[test]
    fn window_leaves_other_columns_alone() {
        let pool = Pool::new(2).unwrap();
        let (m, n, k, stride) = (4, 3, 8, 10);
        let (a, w) = (numbers(m * k, 3), numbers(n * k, 4));
        let mut y = vec![7.0; m * stride];
        gemm_strided(&pool, m, n, k, &a, &w, &mut y[2..], stride);
        let want = naive(m, n, k, &a, &w);
        for (index, got) in y.iter().enumerate() {
            match (index % stride).checked_sub(2).filter(|column| *column < n) {
                Some(column) => assert!((got - want[index / stride * n + column]).abs() < 1e-4),
                None => assert_eq!(*got, 7.0),
            }
        }
    }

    #[test]
    fn empty_inner_dimension_gives_zeros() {
        let mut y = vec![f32::NAN; 6];
        gemm(&Pool::new(1).unwrap(), 2, 3, 0, &[], &[], &mut y);
        assert_eq!(y, vec![0.0; 6]);
    }

    #[test]
    #[should_panic(expected = "right operand")]
    fn wrong_length_is_refused() {
        gemm(&Pool::new(1).unwrap(), 2, 2, 2, &[0.0; 4], &[0.0; 3], &mut [0.0; 4]);
    }
}
