//! A picture of a collection of vectors: each a point in the plane, near those it is like.
//!
//! - [`principal`]: the plane in which the vectors vary most (PCA). Exact about what it shows, which is little.
//! - [`layout`]: points moved so that each is near its nearest neighbours (after UMAP). Shows what belongs together; how far
//!   groups are from each other says little.
//! - [`chart`]: the points as SVG.
//!
//! The same vectors give the same picture. Called by `rag_map`.

pub mod chart;
pub mod layout;
pub mod principal;

/// Vectors of the same length, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    elements: &'a [f32],
    dimensions: usize,
}

impl<'a> Rows<'a> {
    /// `elements` holds whole vectors of `dimensions` elements, at least one; what is left over is not looked at.
    pub fn new(elements: &'a [f32], dimensions: usize) -> Self {
        Self { elements, dimensions: dimensions.max(1) }
    }

    pub fn len(&self) -> usize {
        self.elements.len() / self.dimensions
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub fn row(&self, at: usize) -> &'a [f32] {
        &self.elements[at * self.dimensions..(at + 1) * self.dimensions]
    }
}

/// Numbers that look random and are the same every time (Steele, Lea and Flood, OOPSLA 2014).
pub(crate) struct SplitMix(pub u64);

impl SplitMix {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.draw()) * count as u128) >> 64) as usize
    }

    /// From -1 to 1.
    pub fn signed(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}
