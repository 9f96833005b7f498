//! 16 rows of weights, unpacked to bytes in the order in which the kernels of [`super::tile`] read them.

use super::format::{BlockFormat, Unit, UNIT};
use super::Level;

/// Rows of a panel: one per lane of the widest registers.
pub const PANEL_ROWS: usize = 16;

/// Most units of a panel, so that it stays in the first-level cache beside the vectors; whole blocks of every format.
pub const CHUNK_UNITS: usize = 32;

/// 32 columns of the rows.
#[repr(C, align(64))]
#[derive(Clone, Debug, PartialEq)]
pub struct PanelUnit {
    /// `quants[k][4 * row + i]` is `q` of weight `4 k + i` of the row.
    pub quants: [[u8; 4 * PANEL_ROWS]; UNIT / 4],
    /// By half of the unit and row; of formats without halves, only the first is set.
    pub scales: [[f32; PANEL_ROWS]; 2],
    pub offsets: [[f32; PANEL_ROWS]; 2],
}

impl PanelUnit {
    const ZERO: Self = Self { quants: [[0; 64]; 8], scales: [[0.0; 16]; 2], offsets: [[0.0; 16]; 2] };
}

#[derive(Default)]
pub struct Panel {
    pub units: Vec<PanelUnit>,
    /// Whether halves of units have their own factors.
    pub halves: bool,
    /// No `q` is larger.
    pub largest: u8,
}

impl Panel {
    /// Unpacks units `first..first + count` of up to 16 rows of `row_bytes` each. Lanes of rows that are not there hold
    /// numbers without meaning.
    pub fn fill(
        &mut self,
        level: Level,
        format: BlockFormat,
        rows: &[u8],
        row_bytes: usize,
        first: usize,
        count: usize,
    ) {
        let (block, bytes) = (format.block_units(), format.block_bytes());
        assert!(!rows.is_empty() && rows.len().is_multiple_of(row_bytes), "panel does not consist of whole rows");
        assert!(rows.len() <= PANEL_ROWS * row_bytes, "panel has too many rows");
        assert!(first.is_multiple_of(block) && count.is_multiple_of(block), "panel does not consist of whole blocks");
        assert!((first + count) / block * bytes <= row_bytes, "rows are shorter than the panel");
        (self.halves, self.largest) = (format.halves(), format.largest());
        self.units.resize(count, PanelUnit::ZERO);
        #[cfg(target_arch = "x86_64")]
        {
            if level >= Level::Avx512Vnni && super::panel_avx512::fill(&mut self.units, format, rows, row_bytes, first)
            {
                return;
            }
            if level >= Level::Avx2 {
                return super::panel_avx2::fill(&mut self.units, format, rows, row_bytes, first);
            }
        }
        let _ = level;
        fill_portable(&mut self.units, format, rows, row_bytes, first);
    }
}

fn fill_portable(units: &mut [PanelUnit], format: BlockFormat, rows: &[u8], row_bytes: usize, first: usize) {
    for (row, bytes) in rows.chunks_exact(row_bytes).enumerate() {
        for (index, panel) in units.iter_mut().enumerate() {
            let Unit { q, scales, offsets } = format.unit(bytes, first + index);
            for (panel, q) in panel.quants.iter_mut().zip(q.chunks_exact(4)) {
                panel[4 * row..4 * row + 4].copy_from_slice(q);
            }
            for half in 0..if format.halves() { 2 } else { 1 } {
                panel.scales[half][row] = scales[half];
                panel.offsets[half][row] = offsets[half];
            }
        }
    }
}
