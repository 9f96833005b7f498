//! Products with quantised weights, which stay as they lie in a GGUF file.
//!
//! The pieces, in the order of a product `y = x · wᵀ`:
//! - [`format`]: the block formats of ggml, as units of 32 weights;
//! - [`activations`]: `x`, rounded once to 15 bits and shared by all matrices that multiply it;
//! - [`panel`]: 16 rows of `w`, unpacked to bytes in the order in which the kernels read them, in a scratch of the thread;
//! - [`tile`]: a panel times up to eight rows of `x`.
//!
//! Unpacking 16 rows costs about as much as multiplying them with one vector, and both less than the memory takes to
//! deliver the weights. So one path serves a single token, several at a time, and the slices of a prompt, and the
//! result for a token never depends on the company it is computed in: every sum has the same terms in the same order.
//! Speculation, batches of sequences and cached prefixes rely on that.
//!
//! Every kernel has a portable twin that defines it; tests compare all variants that the CPU has.

pub mod activations;
pub mod format;
mod panel;
#[cfg(target_arch = "x86_64")]
mod panel_avx2;
#[cfg(target_arch = "x86_64")]
mod panel_avx512;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tile_avx2;
#[cfg(target_arch = "x86_64")]
mod tile_avx512;
#[cfg(target_arch = "aarch64")]
mod tile_neon;

pub use activations::Activations;
pub use format::{BlockFormat, UNIT};
pub use panel::PANEL_ROWS;

use panel::{Panel, CHUNK_UNITS};
use std::cell::RefCell;

/// Instructions that the kernels can use, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Portable,
    Avx2,
    /// AVX2 with byte products in one instruction.
    AvxVnni,
    /// AVX-512 with byte products in one instruction.
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON with byte products in one instruction.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Level {
    /// The best that the CPU has.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if !(is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c"))
            {
                return Level::Portable;
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                return Level::Avx512Vnni;
            }
            if is_x86_feature_detected!("avxvnni") {
                return Level::AvxVnni;
            }
            Level::Avx2
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected;
            match (is_aarch64_feature_detected!("neon"), is_aarch64_feature_detected!("dotprod")) {
                (true, true) => Level::NeonDot,
                (true, false) => Level::Neon,
                _ => Level::Portable,
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        Level::Portable
    }

    /// Whether many vectors at once are multiplied faster with bytes than with expanded weights.
    pub fn suits_prompts(self) -> bool {
        match self {
            Level::Portable => false,
            // Twice the instructions of products in f32, by count; not measured.
            #[cfg(target_arch = "aarch64")]
            Level::Neon => false,
            _ => true,
        }
    }

    /// All that the CPU has.
    #[cfg(test)]
    fn all() -> Vec<Self> {
        #[cfg(not(target_arch = "aarch64"))]
        let mut all = vec![Level::Portable, Level::Avx2, Level::AvxVnni, Level::Avx512Vnni];
        #[cfg(target_arch = "aarch64")]
        let mut all = vec![Level::Portable, Level::Neon, Level::NeonDot];
        all.retain(|level| *level <= Level::best());
        #[cfg(target_arch = "x86_64")]
        all.retain(|level| *level != Level::AvxVnni || is_x86_feature_detected!("avxvnni"));
        all
    }
}

thread_local! {
    static PANEL: RefCell<Panel> = RefCell::default();
}

/// Multiplies rows of weights with all rows of `x`, on this thread.
///
/// `weights` are whole rows without gaps, as many as the strip `y` has columns; row `i` of the strip takes the products
/// with row `i` of `x`.
pub fn multiply(level: Level, format: BlockFormat, weights: &[u8], x: &Activations, y: &mut super::parts::Strip) {
    let row_bytes = format.row_bytes(x.columns());
    assert_eq!(weights.len(), row_bytes * y.columns(), "weights are not one row per column of the result");
    assert_eq!(x.rows(), y.rows(), "result does not have a row for each vector");
    if row_bytes == 0 {
        return;
    }
    let units = x.columns() / UNIT;
    PANEL.with_borrow_mut(|panel| {
        for (index, rows) in weights.chunks(PANEL_ROWS * row_bytes).enumerate() {
            let columns = rows.len() / row_bytes;
            for start in (0..units).step_by(CHUNK_UNITS) {
                let count = CHUNK_UNITS.min(units - start);
                panel.fill(level, format, rows, row_bytes, start, count);
                tile::multiply(level, panel, x, start, y, index * PANEL_ROWS, columns);
            }
        }
    });
}

#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod tests;
