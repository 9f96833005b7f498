//! Tests of the page format, over a graph made of arithmetic.

mod boundaries;
mod golden;
mod growth;
mod records;
mod round_trip;
mod totality;
mod versions;

use super::filter_columns::FilterColumn;
use super::meta::{Identity, Meta};
use super::store::MemoryPages;
use super::write::{write_graph, BuiltGraph};
use super::*;
use crate::hnsw::filter::{key, RowShape};

/// A reproducible stream of numbers (xorshift).
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }
}

pub(super) fn identity(code_length: CodeLength, m: u16, key_bytes: &[u8]) -> Identity {
    let columns = key_bytes.iter().zip(2..).map(|(&key_bytes, attribute)| FilterColumn {
        attribute,
        key_bytes,
        type_class: 1,
        flags: 0,
        parameters: [attribute; 12],
    });
    Identity {
        element: ElementType::Vector,
        metric: Metric::Cosine,
        code_kind: CodeKind::Bits8,
        code_length,
        code_seed: 0x0123_4567_89ab_cdef,
        dimensions: 384,
        m,
        ef_construction: 64,
        filter_columns: columns.collect(),
    }
}

/// A graph whose every part is a function of ordinal and seed.
#[derive(Debug, Clone)]
pub(super) struct TestGraph {
    pub nodes: u32,
    pub layout: Layout,
    pub seed: u64,
    pub keys: Vec<FilterColumn>,
}

impl TestGraph {
    fn numbers(&self, ordinal: u32, part: u64) -> Numbers {
        let mut numbers = Numbers::new(self.seed ^ u64::from(ordinal) << 20 ^ part << 56);
        numbers.next();
        numbers
    }

    /// The filter key of a node; None is NULL.
    fn key(&self, ordinal: u32, column: usize) -> Option<u128> {
        let mut numbers = self.numbers(ordinal, 42 + column as u64);
        let width = u32::from(self.keys[column].key_bytes);
        let key = (u128::from(numbers.next()) << 64 | u128::from(numbers.next())) >> (128 - 8 * width);
        (numbers.below(5) > 0).then_some(key)
    }
}

impl BuiltGraph for TestGraph {
    type Error = &'static str;

    fn nodes(&self) -> u32 {
        self.nodes
    }

    fn entry(&self) -> Option<u32> {
        self.nodes.checked_sub(1)
    }

    fn level(&self, ordinal: u32) -> u8 {
        match self.numbers(ordinal, 1).below(16) {
            0 => 1 + self.numbers(ordinal, 2).below(4) as u8,
            _ => 0,
        }
    }

    fn neighbours(&mut self, ordinal: u32, level: u8, into: &mut Vec<u32>) -> Result<(), &'static str> {
        let mut numbers = self.numbers(ordinal, 3 + u64::from(level));
        let count = numbers.below(self.layout.max_neighbours(level) as u64 + 1);
        into.clear();
        into.extend((0..count).map(|_| numbers.below(u64::from(self.nodes)) as u32));
        Ok(())
    }

    fn code(&mut self, ordinal: u32, into: &mut Vec<u8>) -> Result<(), &'static str> {
        let mut numbers = self.numbers(ordinal, 40);
        let length = match self.layout.code_length() {
            CodeLength::Fixed(bytes) => bytes,
            CodeLength::Variable { max_bytes } => 1 + numbers.below(u64::from(max_bytes)) as u32,
        };
        into.clear();
        into.extend((0..length).map(|_| numbers.next() as u8));
        let keys: Vec<Option<u128>> = (0..self.keys.len()).map(|column| self.key(ordinal, column)).collect();
        RowShape::of(&self.keys).append(&keys, into);
        Ok(())
    }

    fn heap_tids(&mut self, ordinal: u32, into: &mut Vec<HeapTid>) -> Result<(), &'static str> {
        let mut numbers = self.numbers(ordinal, 41);
        let count = if numbers.below(8) == 0 { 1 + numbers.below(35) } else { 1 };
        into.clear();
        into.extend((0..count).filter_map(|_| HeapTid::new(numbers.next() as u32, 1 + numbers.below(290) as u16)));
        Ok(())
    }
}

/// A graph of this identity, and the pages that it is written to.
pub(super) fn written(identity: Identity, nodes: u32, seed: u64) -> (TestGraph, MemoryPages) {
    let mut graph =
        TestGraph { nodes, layout: identity.layout().unwrap(), seed, keys: identity.filter_columns.clone() };
    let mut pages = MemoryPages::new();
    write_graph(Meta::empty(identity).unwrap(), &mut graph, |block, page| {
        assert_eq!(block, pages.blocks(), "pages come in block order, each once");
        pages.extend_to(block + 1);
        *pages.page_mut(block).unwrap() = *page;
        Ok(())
    })
    .unwrap();
    (graph, pages)
}
