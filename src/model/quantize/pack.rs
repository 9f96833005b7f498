//! Blocks from their parts: the opposite of [`crate::compute::quant::format`], whose layouts these functions follow.
//!
//! A block begins as zeros, and every part is put into it once. Called by [`super::block`].

use crate::compute::quant::{BlockFormat, UNIT};
use half::f16;

/// The largest half-precision number.
pub const LARGEST: f32 = 65504.0;

/// Puts the numbers of one unit of a block in their places.
pub fn put_numbers(format: BlockFormat, block: &mut [u8], unit: usize, numbers: &[u8; UNIT]) {
    let (half, quarter) = (unit / 4, unit % 4);
    let nibbles = |bytes: &mut [u8]| {
        for (i, byte) in bytes[..UNIT / 2].iter_mut().enumerate() {
            *byte = (numbers[i] & 15) | (numbers[i + 16] & 15) << 4;
        }
    };
    let fifth_bits = |bytes: &mut [u8]| {
        for (i, number) in numbers.iter().enumerate() {
            bytes[i / 8] |= (number >> 4) << (i % 8);
        }
    };
    match format {
        BlockFormat::Q4_0 => nibbles(&mut block[2..]),
        BlockFormat::Q4_1 => nibbles(&mut block[4..]),
        BlockFormat::Q5_0 => {
            fifth_bits(&mut block[2..6]);
            nibbles(&mut block[6..]);
        }
        BlockFormat::Q5_1 => {
            fifth_bits(&mut block[4..8]);
            nibbles(&mut block[8..]);
        }
        BlockFormat::Q8_0 => block[2..].iter_mut().zip(numbers).for_each(|(byte, number)| *byte = number ^ 0x80),
        BlockFormat::Q2_K => {
            for (byte, number) in block[16 + 32 * half..].iter_mut().zip(numbers) {
                *byte |= number << (2 * quarter);
            }
        }
        BlockFormat::Q3_K => {
            for (i, number) in numbers.iter().enumerate() {
                block[i] |= (number >> 2) << unit;
                block[32 + 32 * half + i] |= (number & 3) << (2 * quarter);
            }
        }
        BlockFormat::Q4_K => {
            for (byte, number) in block[16 + 32 * (unit / 2)..].iter_mut().zip(numbers) {
                *byte |= number << (4 * (unit % 2));
            }
        }
        BlockFormat::Q5_K => {
            for (i, number) in numbers.iter().enumerate() {
                block[16 + i] |= (number >> 4) << unit;
                block[48 + 32 * (unit / 2) + i] |= (number & 15) << (4 * (unit % 2));
            }
        }
        BlockFormat::Q6_K => {
            for (i, number) in numbers.iter().enumerate() {
                block[64 * half + 32 * (quarter % 2) + i] |= (number & 15) << (4 * (quarter / 2));
                block[128 + 32 * half + i] |= (number >> 4) << (2 * quarter);
            }
        }
    }
}

/// Puts the 6-bit scale and minimum of a unit of Q4_K or Q5_K into their 12 bytes.
pub fn put_pair(bytes: &mut [u8], unit: usize, scale: u8, minimum: u8) {
    if unit < 4 {
        bytes[unit] |= scale;
        bytes[unit + 4] |= minimum;
    } else {
        bytes[unit + 4] |= (scale & 15) | (minimum & 15) << 4;
        bytes[unit - 4] |= (scale >> 4) << 6;
        bytes[unit] |= (minimum >> 4) << 6;
    }
}

/// Puts the scale of 16 weights of Q3_K, from -32 to 31, into the 12 bytes.
pub fn put_scale(bytes: &mut [u8], at: usize, scale: i8) {
    let scale = (scale + 32) as u8;
    if at < 8 {
        bytes[at] |= scale & 15;
    } else {
        bytes[at - 8] |= (scale & 15) << 4;
    }
    bytes[8 + at % 4] |= (scale >> 4) << (2 * (at / 4));
}

/// Writes the finite half-precision number that is nearest, and returns it.
pub fn put_half(bytes: &mut [u8], number: f32) -> f32 {
    let number = f16::from_f32(number.clamp(-LARGEST, LARGEST));
    bytes[..2].copy_from_slice(&number.to_le_bytes());
    number.to_f32()
}
