//! Weights to blocks.
//!
//! Every block is chosen for itself. The formats with one scale per block search it ([`super::search`]). Those with many
//! scales, which are small numbers times a factor of the block, search all of them, round them, and then fit the factors
//! to the numbers once more, since rounding the scales has moved them away from their best. Weights get their numbers last,
//! by the scales as a reader will see them.

use super::pack::{put_half, put_numbers, put_pair, put_scale, LARGEST};
use super::search::{nearest, scale, scale_and_offset, worths};
use crate::compute::quant::{BlockFormat, UNIT};

/// Weights of a block of the K formats.
const SUPER: usize = 256;

/// Times that the factors of a block are fitted to its numbers.
const FITS: usize = 2;

/// Quantises whole blocks of weights, all finite and none beyond [`LARGEST`]. `out` has room for exactly their blocks.
pub fn quantise(format: BlockFormat, x: &[f32], out: &mut [u8]) {
    assert_eq!(out.len(), format.row_bytes(x.len()), "blocks do not have the length of the weights");
    out.fill(0);
    let blocks = out.chunks_exact_mut(format.block_bytes());
    if format.block_units() == 1 {
        for (x, block) in x.as_chunks::<UNIT>().0.iter().zip(blocks) {
            small(format, x, block);
        }
    } else {
        for (x, block) in x.as_chunks::<SUPER>().0.iter().zip(blocks) {
            match format {
                BlockFormat::Q2_K => with_minimums::<16>(format, x, block),
                BlockFormat::Q4_K | BlockFormat::Q5_K => with_minimums::<32>(format, x, block),
                _ => with_signed_scales(format, x, block),
            }
        }
    }
}

/// The formats with one block per unit.
fn small(format: BlockFormat, x: &[f32; UNIT], block: &mut [u8]) {
    let high = f32::from(format.largest());
    let numbers = match format {
        BlockFormat::Q4_1 | BlockFormat::Q5_1 => {
            let (d, m) = scale_and_offset(x, &worths(x), high, false);
            let (d, m) = (put_half(block, d), put_half(&mut block[2..], m));
            let inverse = inverse(d);
            x.map(|x| nearest((x - m) * inverse, 0.0, high) as u8)
        }
        BlockFormat::Q8_0 => {
            // With so many numbers, trying others than the obvious step gains nothing. -128 is left out, as is usual.
            let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            let inverse = inverse(put_half(block, largest / 127.0));
            x.map(|x| (nearest(x * inverse, -127.0, 127.0) + 128.0) as u8)
        }
        _ => {
            let zero = (high + 1.0) / 2.0;
            let inverse = inverse(put_half(block, scale(x, &worths(x), -zero, zero - 1.0)));
            x.map(|x| (nearest(x * inverse, -zero, zero - 1.0) + zero) as u8)
        }
    };
    put_numbers(format, block, 0, &numbers);
}

/// 0 for 0.
fn inverse(x: f32) -> f32 {
    if x == 0.0 {
        0.0
    } else {
        1.0 / x
    }
}

/// Q2_K, Q4_K and Q5_K: groups of `N` weights with `d s q - dmin m`.
fn with_minimums<const N: usize>(format: BlockFormat, x: &[f32; SUPER], block: &mut [u8]) {
    let high = f32::from(format.largest());
    let most = if format == BlockFormat::Q2_K { 15.0 } else { 63.0 };
    let groups = x.as_chunks::<N>().0;
    let (mut scales, mut minimums) = ([0.0_f32; 16], [0.0_f32; 16]);
    for (index, group) in groups.iter().enumerate() {
        let (scale, offset) = scale_and_offset(group, &worths(group), high, true);
        (scales[index], minimums[index]) = (scale, -offset);
    }
    let largest = |of: &[f32; 16]| of.iter().fold(0.0_f32, |largest, &x| largest.max(x));
    let (mut d, mut dmin) = (round_half(largest(&scales) / most), round_half(largest(&minimums) / most));
    let whole = |of: [f32; 16], unit: f32| of.map(|x| nearest(x * inverse(unit), 0.0, most));
    let (s, m) = (whole(scales, d), whole(minimums, dmin));
    let mut numbers = [0.0_f32; SUPER];
    let number = |numbers: &mut [f32; SUPER], d: f32, dmin: f32| {
        for (index, (group, numbers)) in groups.iter().zip(numbers.as_chunks_mut::<N>().0).enumerate() {
            let (inverse, minimum) = (inverse(d * s[index]), dmin * m[index]);
            for (x, number) in group.iter().zip(numbers) {
                *number = nearest((x + minimum) * inverse, 0.0, high);
            }
        }
    };
    for _ in 0..FITS {
        number(&mut numbers, d, dmin);
        // Least squares for the two factors.
        let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (index, (group, numbers)) in groups.iter().zip(numbers.as_chunks::<N>().0).enumerate() {
            for ((x, worth), number) in group.iter().zip(worths(group)).zip(numbers) {
                let (a, b) = (s[index] * number, -m[index]);
                aa += worth * a * a;
                ab += worth * a * b;
                bb += worth * b * b;
                ax += worth * a * x;
                bx += worth * b * x;
            }
        }
        let determinant = aa * bb - ab * ab;
        let fitted = if determinant > 1e-6 * aa * bb {
            ((ax * bb - bx * ab) / determinant, (bx * aa - ax * ab) / determinant)
        } else if aa > 0.0 {
            ((ax - ab * dmin) / aa, dmin)
        } else {
            (d, dmin)
        };
        if fitted.0 > 0.0 && fitted.1 >= 0.0 && fitted.0 <= LARGEST && fitted.1 <= LARGEST {
            (d, dmin) = (round_half(fitted.0), round_half(fitted.1));
        }
    }
    number(&mut numbers, d, dmin);
    if format == BlockFormat::Q2_K {
        for (index, byte) in block[..16].iter_mut().enumerate() {
            *byte = s[index] as u8 | (m[index] as u8) << 4;
        }
        put_half(&mut block[80..], d);
        put_half(&mut block[82..], dmin);
    } else {
        for unit in 0..8 {
            put_pair(&mut block[4..16], unit, s[unit] as u8, m[unit] as u8);
        }
        put_half(block, d);
        put_half(&mut block[2..], dmin);
    }
    for (unit, numbers) in numbers.as_chunks::<UNIT>().0.iter().enumerate() {
        put_numbers(format, block, unit, &numbers.map(|number| number as u8));
    }
}

/// Q3_K and Q6_K: groups of 16 weights with `d s q`, both signed.
fn with_signed_scales(format: BlockFormat, x: &[f32; SUPER], block: &mut [u8]) {
    let zero = (f32::from(format.largest()) + 1.0) / 2.0;
    let most = if format == BlockFormat::Q3_K { 32.0 } else { 128.0 };
    let groups = x.as_chunks::<16>().0;
    let mut scales = [0.0_f32; 16];
    for (scale_of, group) in scales.iter_mut().zip(groups) {
        *scale_of = scale(group, &worths(group), -zero, zero - 1.0);
    }
    let largest = scales.iter().fold(0.0_f32, |largest, &x| if x.abs() > largest.abs() { x } else { largest });
    let mut d = round_half(largest / -most);
    let s = scales.map(|scale| nearest(scale * inverse(d), -most, most - 1.0));
    let mut numbers = [0.0_f32; SUPER];
    let number = |numbers: &mut [f32; SUPER], d: f32| {
        for ((group, numbers), s) in groups.iter().zip(numbers.as_chunks_mut::<16>().0).zip(s) {
            let inverse = inverse(d * s);
            for (x, number) in group.iter().zip(numbers) {
                *number = nearest(x * inverse, -zero, zero - 1.0);
            }
        }
    };
    for _ in 0..FITS {
        number(&mut numbers, d);
        let (mut aa, mut ax) = (0.0, 0.0);
        for ((group, numbers), s) in groups.iter().zip(numbers.as_chunks::<16>().0).zip(s) {
            for ((x, worth), number) in group.iter().zip(worths(group)).zip(numbers) {
                let a = s * number;
                aa += worth * a * a;
                ax += worth * a * x;
            }
        }
        let fitted = ax * inverse(aa);
        if fitted != 0.0 && fitted.abs() <= LARGEST {
            d = round_half(fitted);
        }
    }
    number(&mut numbers, d);
    for (at, s) in s.iter().enumerate() {
        if format == BlockFormat::Q3_K {
            put_scale(&mut block[96..108], at, *s as i8);
        } else {
            block[192 + at] = *s as i8 as u8;
        }
    }
    put_half(&mut block[format.block_bytes() - 2..], d);
    for (unit, numbers) in numbers.as_chunks::<UNIT>().0.iter().enumerate() {
        put_numbers(format, block, unit, &numbers.map(|number| (number + zero) as u8));
    }
}

fn round_half(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}
