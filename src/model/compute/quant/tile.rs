//! A panel of weights times rows of activations.
//!
//! Per unit and row, the bytes are multiplied exactly in integers; sums of units are added in f32, from the first unit to
//! the last, whatever the number of rows.

use super::activations::{Activations, XUnit};
use super::format::UNIT;
use super::panel::{Panel, PanelUnit};
use super::Level;
use crate::compute::parts::Strip;

/// What the kernels are given: the rows of a tile and where the results go.
#[derive(Clone, Copy)]
pub struct Tile {
    /// The units of the first row that the panel covers; other rows are `x_stride` units apart.
    pub x: *const XUnit,
    pub x_stride: usize,
    /// The first result; rows are `y_stride` numbers apart.
    pub y: *mut f32,
    pub y_stride: usize,
    /// Results per row, at most 16.
    pub columns: usize,
    /// Whether the results replace what is there, or are added to it.
    pub replace: bool,
}

/// Multiplies the panel, which covers the columns of `x` from unit `first` on, with all rows of `x`. The results are
/// `columns` columns of `y`, from `start`: replaced by the first panel of a row, added to by the others.
pub fn multiply(
    level: Level,
    panel: &Panel,
    x: &Activations,
    first: usize,
    y: &mut Strip,
    start: usize,
    columns: usize,
) {
    let stride = x.columns() / UNIT;
    assert!(first + panel.units.len() <= stride && columns <= super::PANEL_ROWS, "panel does not fit its operands");
    let mut row = 0;
    while row < x.rows() {
        let rows = tile_rows(level, x.rows() - row);
        let (window, y_stride) = y.window(row, rows, start, columns);
        let x = &x.units()[row * stride + first..];
        let tile = Tile { x: x.as_ptr(), x_stride: stride, y: window, y_stride, columns, replace: first == 0 };
        debug_assert!(x.len() >= (rows - 1) * stride + panel.units.len());
        #[cfg(target_arch = "x86_64")]
        match level {
            Level::Avx512Vnni => super::tile_avx512::multiply(panel, rows, tile),
            Level::Avx2 | Level::AvxVnni => super::tile_avx2::multiply(level, panel, rows, tile),
            Level::Portable => portable(panel, tile),
        }
        #[cfg(target_arch = "aarch64")]
        match level {
            Level::Neon | Level::NeonDot => super::tile_neon::multiply(level, panel, rows, tile),
            _ => portable(panel, tile),
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        portable(panel, tile);
        row += rows;
    }
}

/// Rows of the next tile, if `left` are left: as many as the registers hold.
fn tile_rows(level: Level, left: usize) -> usize {
    let sizes: &[usize] = match level {
        Level::Portable => &[1],
        Level::Avx2 | Level::AvxVnni => &[2, 1],
        Level::Avx512Vnni => &[8, 4, 2, 1],
        #[cfg(target_arch = "aarch64")]
        Level::Neon | Level::NeonDot => &[2, 1],
    };
    sizes.iter().copied().find(|&size| size <= left).unwrap_or(1)
}

/// One row; the definition of the other kernels.
#[allow(unsafe_code)]
fn portable(panel: &Panel, tile: Tile) {
    // SAFETY: `multiply` checked that the row has as many units as the panel, and got the window from the strip.
    let (x, y) = unsafe {
        let x = std::slice::from_raw_parts(tile.x, panel.units.len());
        (x, std::slice::from_raw_parts_mut(tile.y, tile.columns))
    };
    if tile.replace {
        y.fill(0.0);
    }
    for (unit, x) in panel.units.iter().zip(x) {
        let dots = [0, 4].map(|k| dot_half(unit, x, k));
        for (row, y) in y.iter_mut().enumerate() {
            if panel.halves {
                for (half, dots) in dots.iter().enumerate() {
                    *y += dots[row] as f32 * (unit.scales[half][row] * x.scale);
                    *y += unit.offsets[half][row] * x.half_sums[half];
                }
            } else {
                *y += (dots[0][row] + dots[1][row]) as f32 * (unit.scales[0][row] * x.scale);
                *y += unit.offsets[0][row] * x.sum;
            }
        }
    }
}

/// Integer products of the 16 weights from `4 * first` on, by row.
fn dot_half(unit: &PanelUnit, x: &XUnit, first: usize) -> [i32; 16] {
    let mut dots = [0; 16];
    for k in first..first + 4 {
        for i in 0..4 {
            let number = i32::from(x.high[4 * k + i]) * 256 + i32::from(x.low[4 * k + i]);
            for (row, dot) in dots.iter_mut().enumerate() {
                *dot += i32::from(unit.quants[k][4 * row + i]) * number;
            }
        }
    }
    dots
}
