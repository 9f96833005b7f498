//! Predictors: streams whose bytes are differences to those beside and above them.
//!
//! Made for pixels; now and then a program writes text so. The library's own panics at some dimensions, and reserves what
//! they ask for; here no row is longer than the data.

use crate::error::Result;
use crate::limits::Guard;

/// How a stream was predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predictor {
    /// 2 is that of TIFF, 10 and above are those of PNG, 1 is none.
    pub kind: i32,
    pub colors: i32,
    pub bits: i32,
    pub columns: i32,
}

impl Predictor {
    /// Bytes of a pixel and of a row; dimensions that no picture has are taken for the nearest that one could have.
    fn sizes(self) -> (usize, usize) {
        let bits = self.colors.clamp(1, 32) as usize * self.bits.clamp(1, 16) as usize;
        let row_bits = bits.saturating_mul(self.columns.max(1) as usize);
        (bits.div_ceil(8), row_bits.div_ceil(8))
    }

    /// The bytes as they were.
    pub fn undo(self, bytes: Vec<u8>, guard: &Guard) -> Result<Vec<u8>> {
        match self.kind {
            2 if self.bits == 8 => self.undo_tiff(bytes, guard),
            10.. => self.undo_png(&bytes, guard),
            _ => Ok(bytes),
        }
    }

    fn undo_tiff(self, mut bytes: Vec<u8>, guard: &Guard) -> Result<Vec<u8>> {
        let (pixel, row) = self.sizes();
        for row in bytes.chunks_mut(row) {
            guard.step()?;
            for at in pixel..row.len() {
                row[at] = row[at].wrapping_add(row[at - pixel]);
            }
        }
        Ok(bytes)
    }

    /// Each row tells its own way in the byte before it.
    fn undo_png(self, bytes: &[u8], guard: &Guard) -> Result<Vec<u8>> {
        let (pixel, row_bytes) = self.sizes();
        guard.unpack(bytes.len() as u64)?;
        let mut plain: Vec<u8> = Vec::with_capacity(bytes.len());
        let mut above = 0..0;
        for row in bytes.chunks(row_bytes.saturating_add(1)) {
            guard.step()?;
            let Some((&way, row)) = row.split_first() else { break };
            let start = plain.len();
            for (at, &byte) in row.iter().enumerate() {
                let left = if at >= pixel { plain[start + at - pixel] } else { 0 };
                let over = |at: usize| if above.start + at < above.end { plain[above.start + at] } else { 0 };
                let up = over(at);
                let corner = if at >= pixel { over(at - pixel) } else { 0 };
                plain.push(byte.wrapping_add(match way {
                    1 => left,
                    2 => up,
                    3 => ((u16::from(left) + u16::from(up)) / 2) as u8,
                    4 => paeth(left, up, corner),
                    _ => 0,
                }));
            }
            above = start..plain.len();
        }
        Ok(plain)
    }
}

/// The one of the three that is nearest to `left + up - corner` (the PNG specification, 9.4).
fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let estimate = i16::from(left) + i16::from(up) - i16::from(corner);
    let off = |value: u8| (estimate - i16::from(value)).abs();
    match (off(left), off(up), off(corner)) {
        (a, b, c) if a <= b && a <= c => left,
        (_, b, c) if b <= c => up,
        _ => corner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    /// The rows of `plain`, predicted in the ways of `ways` in turn, as a writer does.
    fn png(plain: &[u8], pixel: usize, row: usize, ways: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, line) in plain.chunks(row).enumerate() {
            let way = ways[number % ways.len()];
            bytes.push(way);
            for (at, &byte) in line.iter().enumerate() {
                let place = |back: usize, up: usize| {
                    let inside = at >= back && number >= up;
                    if inside {
                        plain[(number - up) * row + at - back]
                    } else {
                        0
                    }
                };
                let (left, up, corner) = (place(pixel, 0), place(0, 1), place(pixel, 1));
                let guess = match way {
                    0 => 0,
                    1 => left,
                    2 => up,
                    3 => ((u16::from(left) + u16::from(up)) / 2) as u8,
                    _ => paeth(left, up, corner),
                };
                bytes.push(byte.wrapping_sub(guess));
            }
        }
        bytes
    }

    #[test]
    fn what_was_predicted_comes_back() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        let plain: Vec<u8> = (0..105u32).map(|number| (number * number * 7 % 251) as u8).collect();
        for (colors, columns) in [(1, 15), (3, 5), (1, 1), (4, 3)] {
            let predictor = Predictor { kind: 15, colors, bits: 8, columns };
            let row = (colors * columns) as usize;
            for ways in [&[0][..], &[1], &[2], &[3], &[4], &[4, 2, 0, 1, 3]] {
                let packed = png(&plain, colors as usize, row, ways);
                assert_eq!(predictor.undo(packed, &guard).unwrap(), plain, "{predictor:?} {ways:?}");
            }
        }
        let tiff = Predictor { kind: 2, colors: 1, bits: 8, columns: 3 };
        assert_eq!(tiff.undo(vec![1, 1, 1, 255, 2, 0], &guard).unwrap(), [1, 2, 3, 255, 1, 1]);
        let none = Predictor { kind: 1, ..tiff };
        assert_eq!(none.undo(vec![9, 9], &guard).unwrap(), [9, 9]);
    }

    #[test]
    fn dimensions_that_are_none_do_no_harm() {
        let limits = Limits::default();
        let guard = Guard::start(&limits, 1, &|| false).unwrap();
        for kind in [i32::MIN, 2, 15, i32::MAX] {
            for number in [i32::MIN, -1, 0, 1, i32::MAX] {
                let predictor =
                    Predictor { kind, colors: number, bits: if kind == 2 { 8 } else { number }, columns: number };
                assert!(predictor.undo(vec![4; 100], &guard).unwrap().len() <= 100, "{predictor:?}");
                assert!(predictor.undo(Vec::new(), &guard).unwrap().is_empty());
            }
        }
    }
}
