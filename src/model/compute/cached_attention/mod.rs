//! Attention over keys and values that are cached as f16.
//!
//! The positions of a sequence fall into spans of [`SPAN`], counted from the first. A row (a query head of a token)
//! attends to each span on its own, which gives a [`Partial`] softmax; [`Partial::add`] combines those of a row from the
//! first span to the last (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al.,
//! "FlashAttention", 2022). So a row has the same result whether spans are computed on several threads or one after the
//! other, and whatever rows are computed with it.
//!
//! Up to [`ROWS`] rows that share a key head are computed together, so keys and values are widened once for all of them.
//! Keys lie in blocks of 16 positions, `[block][dimension][position]`: the scores of 16 positions are one register.
#![allow(unsafe_code)]

mod lanes;
#[cfg(target_arch = "aarch64")]
mod lanes_neon;

use super::elementwise::soft_cap_body;
use half::f16;
use lanes::{exp, Lanes, Portable, LANES};

/// Positions per block of keys.
pub const BLOCK: usize = LANES;

/// Positions per span.
pub const SPAN: usize = 256;

/// Most rows that are computed together.
pub const ROWS: usize = 8;

/// Dimensions of a head in the cache: a multiple of this, the rest zeros.
pub const DIMENSIONS: usize = LANES;

/// The instructions to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Portable,
    Avx2,
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Level {
    /// The best that the CPU has.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Level::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                return Level::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Level::Neon;
        }
        Level::Portable
    }

    /// Rows that the registers hold.
    pub fn rows(self) -> usize {
        if self == Level::Avx512 {
            ROWS
        } else {
            ROWS / 2
        }
    }
}

/// Keys and values of one head, `dimensions` (a multiple of [`DIMENSIONS`]) each, from the first position on. Both hold
/// whole blocks.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub keys: &'a [f16],
    pub values: &'a [f16],
    pub dimensions: usize,
}

/// A query, already multiplied by the scale of the scores, and the positions that it sees: from `first` up to, not
/// including, `visible`.
#[derive(Clone, Copy, Default)]
pub struct Row<'a> {
    pub query: &'a [f32],
    pub first: usize,
    pub visible: usize,
}

/// Softmax over some of the positions: maximum of the scores, sum of their exponentials below it, and the values
/// weighted with these. A row of `2 + dimensions` numbers.
pub struct Partial<'a>(pub &'a mut [f32]);

impl Partial<'_> {
    pub const fn len(dimensions: usize) -> usize {
        2 + dimensions
    }

    /// Begins with no position.
    pub fn clear(&mut self) {
        self.0.fill(0.0);
        self.0[0] = f32::NEG_INFINITY;
    }

    /// Adds later positions.
    pub fn add(&mut self, later: &[f32]) {
        if later[0] == f32::NEG_INFINITY {
            return;
        }
        if self.0[0] == f32::NEG_INFINITY {
            self.0.copy_from_slice(later);
            return;
        }
        let maximum = self.0[0].max(later[0]);
        let (old, new) = ((self.0[0] - maximum).exp(), (later[0] - maximum).exp());
        for (sum, later) in self.0.iter_mut().zip(later).skip(1) {
            *sum = *sum * old + later * new;
        }
        self.0[0] = maximum;
    }

    /// Writes the weighted mean of the values.
    pub fn finish(&self, out: &mut [f32]) {
        let inverse = 1.0 / self.0[1];
        for (out, sum) in out.iter_mut().zip(&self.0[2..]) {
            *out = sum * inverse;
        }
    }
}

/// Lets up to [`Level::rows`] rows attend to span `span` of a head. `partials` takes a [`Partial`] for each row; that of a
/// row which does not see the span is empty. With a `cap`, scores are softly kept below it.
pub fn attend_span(level: Level, head: Head, span: usize, cap: Option<f32>, rows: &[Row], partials: &mut [f32]) {
    let Head { keys, values, dimensions } = head;
    let start = span * SPAN;
    let end = rows.iter().map(|row| row.visible).max().unwrap_or(0).min(start + SPAN);
    assert!(dimensions > 0 && dimensions.is_multiple_of(DIMENSIONS), "a head has {dimensions} dimensions");
    assert!(partials.len() == rows.len() * Partial::len(dimensions), "not a partial for each row");
    assert!(rows.iter().all(|row| row.query.len() >= dimensions), "a query is shorter than the keys");
    assert!(rows.len() <= level.rows(), "{} rows at a time", rows.len());
    if end <= start {
        partials.chunks_exact_mut(Partial::len(dimensions)).for_each(|partial| Partial(partial).clear());
        return;
    }
    let needed = end.next_multiple_of(BLOCK) * dimensions;
    assert!(keys.len() >= needed && values.len() >= needed, "the cache has fewer positions than are visible");
    // SAFETY: the CPU has the instructions of the level; the asserts are what the kernels ask for.
    unsafe {
        match level {
            Level::Portable => by_rows::<Portable>(head, start, end, cap, rows, partials),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(head, start, end, cap, rows, partials),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(head, start, end, cap, rows, partials),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => neon(head, start, end, cap, rows, partials),
            #[cfg(not(target_arch = "x86_64"))]
            _ => by_rows::<Portable>(head, start, end, cap, rows, partials),
        }
    }
}

/// # Safety
/// AVX2, FMA and F16C; see [`attend`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(head: Head, start: usize, end: usize, cap: Option<f32>, rows: &[Row], partials: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { by_rows::<lanes::Avx2>(head, start, end, cap, rows, partials) }
}

/// # Safety
/// NEON; see [`attend`].
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
unsafe fn neon(head: Head, start: usize, end: usize, cap: Option<f32>, rows: &[Row], partials: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { by_rows::<lanes_neon::Neon>(head, start, end, cap, rows, partials) }
}

/// # Safety
/// AVX-512 F; see [`attend`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(head: Head, start: usize, end: usize, cap: Option<f32>, rows: &[Row], partials: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe {
        match rows.len() {
            5 => attend::<lanes::Avx512, 5, 1>(head, start, end, cap, rows, partials),
            6 => attend::<lanes::Avx512, 6, 1>(head, start, end, cap, rows, partials),
            7 => attend::<lanes::Avx512, 7, 1>(head, start, end, cap, rows, partials),
            8 => attend::<lanes::Avx512, 8, 1>(head, start, end, cap, rows, partials),
            1 => attend::<lanes::Avx512, 1, 2>(head, start, end, cap, rows, partials),
            2 => attend::<lanes::Avx512, 2, 2>(head, start, end, cap, rows, partials),
            3 => attend::<lanes::Avx512, 3, 2>(head, start, end, cap, rows, partials),
            _ => attend::<lanes::Avx512, 4, 2>(head, start, end, cap, rows, partials),
        }
    }
}

/// # Safety
/// See [`attend`]; at most four rows.
#[inline(always)]
unsafe fn by_rows<L: Lanes>(
    head: Head,
    start: usize,
    end: usize,
    cap: Option<f32>,
    rows: &[Row],
    partials: &mut [f32],
) {
    // SAFETY: the caller's.
    unsafe {
        match rows.len() {
            1 => attend::<L, 1, 1>(head, start, end, cap, rows, partials),
            2 => attend::<L, 2, 1>(head, start, end, cap, rows, partials),
            3 => attend::<L, 3, 1>(head, start, end, cap, rows, partials),
            _ => attend::<L, 4, 1>(head, start, end, cap, rows, partials),
        }
    }
}

/// `R` rows; `W` registers of results per row at a time where the dimensions allow.
///
/// # Safety
/// The instructions of `L`. `rows` and `partials` are `R`; queries have the head's dimensions, a multiple of 16;
/// `start..end` is a part of a span that begins with one, not empty, and in the cache, to the end of its last block.
#[inline(always)]
unsafe fn attend<L: Lanes, const R: usize, const W: usize>(
    head: Head,
    start: usize,
    end: usize,
    cap: Option<f32>,
    rows: &[Row],
    partials: &mut [f32],
) {
    let dimensions = head.dimensions;
    let mut scores = [[0.0_f32; SPAN]; R];
    // SAFETY: the caller's; `block` and `position` stay below `end`, `dimension` below `dimensions`.
    unsafe {
        let queries: [*const f32; R] = std::array::from_fn(|r| rows[r].query.as_ptr());
        let keys = head.keys.as_ptr().add(start * dimensions);
        for block in 0..(end - start).div_ceil(BLOCK) {
            let keys = keys.add(block * BLOCK * dimensions);
            // Two sums per row where rows are few, to hide the latency of the additions.
            let mut sums = [[L::splat(0.0); R]; 2];
            for pair in 0..dimensions / 2 {
                for (i, sums) in sums.iter_mut().enumerate() {
                    let dimension = 2 * pair + i;
                    let key = L::load_half(keys.add(dimension * BLOCK));
                    for r in 0..R {
                        sums[r] = key.mul_add(L::splat(*queries[r].add(dimension)), sums[r]);
                    }
                }
            }
            for r in 0..R {
                sums[0][r].add(sums[1][r]).store(scores[r].as_mut_ptr().add(block * BLOCK));
            }
        }
        let len = Partial::len(dimensions);
        for r in 0..R {
            if let Some(cap) = cap {
                soft_cap_body(&mut scores[r], cap);
            }
            let visible = rows[r].visible.min(end).saturating_sub(start);
            let hidden = rows[r].first.saturating_sub(start);
            let partial = &mut partials[r * len..r * len + 2];
            (partial[0], partial[1]) = if hidden == 0 {
                softmax::<L>(&mut scores[r], visible)
            } else if hidden < visible {
                scores[r][..hidden].fill(f32::NEG_INFINITY);
                let sums = softmax::<L>(&mut scores[r], visible);
                // The exponential of minus infinity is only nearly 0.
                scores[r][..hidden].fill(0.0);
                sums
            } else {
                softmax::<L>(&mut scores[r], 0)
            };
        }
        let mut at = 0;
        while at < dimensions {
            let values = head.values.as_ptr().add(start * dimensions + at);
            let out = partials.as_mut_ptr().add(2 + at);
            if at + 2 * W * LANES <= dimensions {
                match W {
                    1 => weigh::<L, R, 2>(&scores, values, dimensions, end - start, out),
                    _ => weigh::<L, R, 4>(&scores, values, dimensions, end - start, out),
                }
                at += 2 * W * LANES;
            } else {
                weigh::<L, R, 1>(&scores, values, dimensions, end - start, out);
                at += LANES;
            }
        }
    }
}

/// Replaces the first `visible` scores by their exponentials below the maximum, and the others, up to the end of the
/// last block, by 0. Returns maximum and sum.
///
/// # Safety
/// The instructions of `L`.
#[inline(always)]
unsafe fn softmax<L: Lanes>(scores: &mut [f32; SPAN], visible: usize) -> (f32, f32) {
    if visible == 0 {
        scores.fill(0.0);
        return (f32::NEG_INFINITY, 0.0);
    }
    // SAFETY: the caller's; blocks are inside the scores.
    unsafe {
        let scores = scores.as_mut_ptr();
        let mut maxima = L::splat(f32::NEG_INFINITY);
        for at in (0..visible).step_by(BLOCK) {
            let block = L::load(scores.add(at)).first(visible - at, L::splat(f32::NEG_INFINITY));
            maxima = maxima.max(block);
        }
        let maximum = maxima.to_array().iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        let (mut sums, splat) = (L::splat(0.0), L::splat(maximum));
        for at in (0..SPAN).step_by(BLOCK) {
            if at >= visible {
                L::splat(0.0).store(scores.add(at));
                continue;
            }
            let weights = exp(L::load(scores.add(at)).sub(splat)).first(visible - at, L::splat(0.0));
            weights.store(scores.add(at));
            sums = sums.add(weights);
        }
        (maximum, sums.to_array().iter().sum())
    }
}

/// Sums of values by weight, `16 · D` dimensions of `R` rows; results are `2 + dimensions` apart.
///
/// # Safety
/// The instructions of `L`; `values` and `out` have that many dimensions in each of `positions` positions and `R` rows.
#[inline(always)]
unsafe fn weigh<L: Lanes, const R: usize, const D: usize>(
    weights: &[[f32; SPAN]; R],
    values: *const f16,
    dimensions: usize,
    positions: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[L::splat(0.0); D]; R];
        #[allow(clippy::needless_range_loop)] // it indexes an array in each row
        for position in 0..positions {
            let mut value = [L::splat(0.0); D];
            for (d, value) in value.iter_mut().enumerate() {
                *value = L::load_half(values.add(position * dimensions + d * LANES));
            }
            for r in 0..R {
                let weight = L::splat(weights[r][position]);
                for d in 0..D {
                    sums[r][d] = value[d].mul_add(weight, sums[r][d]);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (d, sum) in sums.into_iter().enumerate() {
                sum.store(out.add(r * Partial::len(dimensions) + d * LANES));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn levels() -> Vec<Level> {
        match Level::best() {
            Level::Portable => vec![Level::Portable],
            Level::Avx2 => vec![Level::Portable, Level::Avx2],
            Level::Avx512 => vec![Level::Portable, Level::Avx2, Level::Avx512],
            #[cfg(target_arch = "aarch64")]
            Level::Neon => vec![Level::Portable, Level::Neon],
        }
    }

    /// Attention of `count` rows of which row `r` sees `visible - r` positions, in tiles of `rows`.
    /// With a window, each row sees so many positions at most.
    #[allow(clippy::too_many_arguments)]
    fn attend_all(
        level: Level,
        rows: usize,
        keys: &[f32],
        values: &[f32],
        queries: &[f32],
        dims: usize,
        window: usize,
        cap: Option<f32>,
    ) -> Vec<f32> {
        let positions = keys.len() / dims;
        let padded = positions.next_multiple_of(BLOCK) * dims;
        let (mut cached_keys, mut cached_values) = (vec![f16::ZERO; padded], vec![f16::ZERO; padded]);
        for position in 0..positions {
            for d in 0..dims {
                let at = (position / BLOCK * dims + d) * BLOCK + position % BLOCK;
                cached_keys[at] = f16::from_f32(keys[position * dims + d]);
                cached_values[position * dims + d] = f16::from_f32(values[position * dims + d]);
            }
        }
        let head = Head { keys: &cached_keys, values: &cached_values, dimensions: dims };
        let all: Vec<Row> = queries
            .chunks(dims)
            .enumerate()
            .map(|(r, query)| {
                let visible = positions.saturating_sub(r).max(1);
                Row { query, first: visible.saturating_sub(window), visible }
            })
            .collect();
        let mut out = vec![f32::NAN; queries.len()];
        let len = Partial::len(dims);
        for (rows, out) in all.chunks(rows).zip(out.chunks_mut(rows * dims)) {
            let mut totals = vec![f32::NAN; rows.len() * len];
            totals.chunks_mut(len).for_each(|total| Partial(total).clear());
            for span in 0..positions.div_ceil(SPAN) {
                let mut partials = vec![f32::NAN; rows.len() * len];
                attend_span(level, head, span, cap, rows, &mut partials);
                for (total, partial) in totals.chunks_mut(len).zip(partials.chunks(len)) {
                    Partial(total).add(partial);
                }
            }
            for (total, out) in totals.chunks_mut(len).zip(out.chunks_mut(dims)) {
                Partial(total).finish(out);
            }
        }
        out
    }

    #[test]
    fn rows_equal_plain_softmax_attention_whatever_their_company() {
        for (count, dims, positions, window, cap) in [
            (1, 64, 1, 9, None),
            (3, 64, 37, 999, None),
            (8, 128, 300, 999, None),
            (13, 80, 256, 999, None),
            (2, 16, 515, 999, None),
            (9, 64, 270, 999, None),
            (5, 96, 20, 999, None),
            (9, 64, 530, 270, None),
            (9, 32, 530, 20, None),
            (7, 256, 40, 1, None),
            (6, 64, 300, 280, Some(2.0)),
        ] {
            check(count, dims, positions, window, cap);
        }
    }

    #[test]
    fn every_number_of_rows_every_width_and_every_tail_of_a_block() {
        let check = |count, dims, positions| check(count, dims, positions, usize::MAX, None);
        for count in 1..=ROWS + 1 {
            check(count, 64, 19);
        }
        for dims in (16..=256).step_by(16) {
            check(4, dims, 35);
        }
        for positions in 1..=2 * BLOCK + 1 {
            check(2, 32, positions);
        }
        for positions in [SPAN - 1, SPAN, SPAN + 1, 2 * SPAN - 1, 2 * SPAN + 1] {
            check(5, 32, positions);
        }
    }

    /// Attention of `count` rows at all levels, in tiles of all sizes, against f64.
    fn check(count: usize, dims: usize, positions: usize, window: usize, cap: Option<f32>) {
        let queries = numbers(count * dims, 1);
        let (keys, values) = (numbers(positions * dims, 2), numbers(positions * dims, 3));
        for level in levels() {
            let got = attend_all(level, level.rows(), &keys, &values, &queries, dims, window, cap);
            for rows in 1..level.rows() {
                let alone = attend_all(level, rows, &keys, &values, &queries, dims, window, cap);
                assert_eq!(got, alone, "{level:?}, {rows} rows");
            }
            for (r, (query, got)) in queries.chunks(dims).zip(got.chunks(dims)).enumerate() {
                let visible = positions.saturating_sub(r).max(1);
                let half = |number: &f32| f64::from(f16::from_f32(*number).to_f32());
                let dot = |key: &[f32]| query.iter().zip(key).map(|(q, k)| f64::from(*q) * half(k)).sum::<f64>();
                let score = |key| cap.map_or(dot(key), |cap| f64::from(cap) * (dot(key) / f64::from(cap)).tanh());
                let first = visible.saturating_sub(window);
                let weight = |(p, key)| if p < first { 0.0 } else { f64::exp(score(key)) };
                let weights: Vec<f64> = keys.chunks(dims).take(visible).enumerate().map(weight).collect();
                let total: f64 = weights.iter().sum();
                for (dimension, got) in got.iter().enumerate() {
                    let value = |position: usize| half(&values[position * dims + dimension]);
                    let want = weights.iter().enumerate().map(|(p, w)| w * value(p)).sum::<f64>() / total;
                    let error = (f64::from(*got) - want).abs();
                    assert!(error < 1e-4, "{level:?}, {count} rows of {dims}, {positions} positions: {got} != {want}");
                }
            }
        }
    }

    #[test]
    fn exponentials_are_close_to_the_library() {
        for i in -8700..=0 {
            let x = i as f32 / 100.0;
            // SAFETY: the portable lanes need nothing.
            let got = f64::from(unsafe { exp(Portable::splat(x)).to_array() }[0]);
            assert!((got / f64::from(x).exp() - 1.0).abs() < 5e-7, "exp({x}) = {got}");
        }
    }
}
