//! An index whose pages are damaged: whatever is done with it gives results or typed errors, and never a panic, a loop
//! without end, or memory without limit.
//!
//! The first byte chooses one of three small indexes, which are made once: 8-bit codes of 64 dimensions, sparse codes of
//! variable length, bits. All have upper levels, chains of heap tids, pages of the build and extents of insertions, and
//! dead and free nodes. Then come the damages, until a byte says that there are no more, and then what is done.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use pg_rag_engine::code::Values;
use pg_rag_engine::hnsw::filter::KeyRow;
use pg_rag_engine::hnsw::index::insert::Inserter;
use pg_rag_engine::hnsw::index::memory::MemoryStore;
use pg_rag_engine::hnsw::index::Index;
use pg_rag_engine::hnsw::page::meta::Identity;
use pg_rag_engine::hnsw::page::store::MemoryPages;
use pg_rag_engine::hnsw::page::{ElementType, HeapTid, Metric, PAGE_BYTES};
use pg_rag_engine::sparse::SparseRef;
use pg_rag_fuzz::decisions::Decisions;
use pg_rag_fuzz::indexes::{built, insert, scan};
use pg_rag_fuzz::watched::WatchedStore;

const DIMENSIONS: usize = 64;
/// Rows of the build, and with those inserted afterwards.
const BUILT: u32 = 60;
const ROWS: u32 = 110;
/// From here to the last the rows are equal.
const EQUAL_FROM: u32 = 84;
const MOST_DAMAGES: usize = 12;
const MOST_BATCHES: usize = 24;

/// One of the three kinds of index.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Quantised,
    Sparse,
    Bits,
}

const KINDS: [Kind; 3] = [Kind::Quantised, Kind::Sparse, Kind::Bits];

impl Kind {
    fn identity(self) -> Identity {
        let (element, metric) = match self {
            Kind::Quantised => (ElementType::Vector, Metric::L2),
            Kind::Sparse => (ElementType::Sparsevec, Metric::InnerProduct),
            Kind::Bits => (ElementType::Bit, Metric::Hamming),
        };
        Identity::of_column(element, metric, DIMENSIONS as u32, 3, 12, 0xC0DE)
    }

    /// The value of a row.
    fn value(self, row: u32) -> Value {
        let row = row.min(EQUAL_FROM);
        let mixed = |place: u32| (row * 97 + place).wrapping_mul(0x9E37_79B9).wrapping_mul(row | 1) >> 24;
        let places = 0..DIMENSIONS as u32;
        match self {
            Kind::Quantised => Value::Dense(places.map(|place| mixed(place) as f32 - 128.0).collect()),
            Kind::Sparse => {
                let indices: Vec<i32> = places.filter(|&place| mixed(place) < 70).map(|place| place as i32).collect();
                let values = indices.iter().map(|&place| 1.0 + mixed(place as u32) as f32).collect();
                Value::Sparse(indices, values)
            }
            Kind::Bits => Value::Bits((0..DIMENSIONS as u32 / 8).map(|place| mixed(place) as u8).collect()),
        }
    }

    /// The pages of the sound index.
    fn pages(self) -> MemoryPages {
        let rows: Vec<Value> = (0..BUILT).map(|row| self.value(row)).collect();
        let values: Vec<Values<'_>> = rows.iter().map(Value::values).collect();
        let mut index =
            Index::open(MemoryStore::new(built(self.identity(), &values)), None).expect("the index is sound");
        for row in BUILT..ROWS {
            insert(&mut index, self.value(row).values(), row).expect("the index is sound");
        }
        index.vacuum(|tid| tid.block() % 9 == 4).expect("the index is sound");
        // One that a crash cuts off leaves dead nodes.
        index.store().crash_after(Some(6));
        let _ = index.vacuum(|tid| tid.block() % 9 == 5);
        index.into_store().pages
    }
}

/// A value of a column.
enum Value {
    Dense(Vec<f32>),
    Sparse(Vec<i32>, Vec<f32>),
    Bits(Vec<u8>),
}

impl Value {
    fn values(&self) -> Values<'_> {
        match self {
            Value::Dense(elements) => Values::Single(elements),
            Value::Sparse(indices, values) => Values::Sparse(SparseRef::trusted(DIMENSIONS as i32, indices, values)),
            Value::Bits(bytes) => Values::Bits(bytes),
        }
    }
}

/// Damages pages as the input says.
fn damage(pages: &mut MemoryPages, input: &mut Decisions<'_>) {
    for _ in 0..MOST_DAMAGES {
        let damage = input.below(8);
        if damage == 7 {
            return;
        }
        // The metapage is chosen more often.
        let block = u32::from(input.byte()).saturating_sub(40) % pages.blocks();
        let at = usize::from(input.pair()) % PAGE_BYTES;
        let Ok(page) = pages.page(block).copied() else { return };
        let Ok(changed) = pages.page_mut(block) else { return };
        match damage {
            0 => changed[at] ^= 1 << input.below(8),
            1 => changed[at] = input.byte(),
            2 => {
                // A number in its place.
                let at = at & !3;
                let number = [0, 1, 2, u32::MAX, u32::from(input.byte()), u32::from(input.byte()) << 24];
                changed[at..at + 4].copy_from_slice(&number[input.below(number.len())].to_le_bytes());
            }
            3 => {
                let length = usize::from(input.byte()).min(PAGE_BYTES - at);
                let byte = input.byte();
                changed[at..at + length].fill(byte);
            }
            4 => {
                // Bytes of a page at another place of it.
                let length = 1 + usize::from(input.byte());
                let from = usize::from(input.pair()) % PAGE_BYTES;
                let length = length.min(PAGE_BYTES - at).min(PAGE_BYTES - from);
                changed[at..at + length].copy_from_slice(&page[from..from + length]);
            }
            5 => {
                let other = u32::from(input.byte()) % pages.blocks();
                let Ok(second) = pages.page(other).copied() else { return };
                let (Ok(()), Ok(())) =
                    (pages.page_mut(block).map(|to| *to = second), pages.page_mut(other).map(|to| *to = page))
                else {
                    return;
                };
            }
            _ => {
                // The fork ends early.
                let mut shorter = MemoryPages::new();
                for kept in 0..block.max(1) {
                    shorter.extend_to(kept + 1);
                    if let (Ok(to), Ok(from)) = (shorter.page_mut(kept), pages.page(kept)) {
                        *to = *from;
                    }
                }
                *pages = shorter;
            }
        }
    }
}

/// Does everything that can be done with an index. Errors are what is expected of most.
fn use_all(kind: Kind, pages: MemoryPages, input: &mut Decisions<'_>) {
    let Ok(mut index) = Index::open(WatchedStore::new(pages), None) else { return };
    let ef = 1 + input.below(40);
    // A damaged metapage may make it an index of other values.
    let query = |index: &Index<WatchedStore>, row: u32| index.shape().codec.query(kind.value(row).values());
    if let Ok(query) = query(&index, 3) {
        let _ = scan(&mut index, query, ef, MOST_BATCHES);
    }
    let _ = index.check();
    for row in [u32::from(input.byte()) % ROWS, EQUAL_FROM] {
        if let Some(tid) = HeapTid::new(ROWS + row, 1) {
            let _ = index.insert(&mut Inserter::default(), kind.value(row).values(), KeyRow::NONE, tid);
        }
    }
    let (divisor, rest) = (1 + input.below(5) as u32, input.below(5) as u32);
    let _ = index.vacuum(|tid| tid.block() % divisor == rest % divisor);
    let _ = index.check();
    if let Ok(query) = query(&index, EQUAL_FROM) {
        let _ = scan(&mut index, query, ef, MOST_BATCHES);
    }
}

fuzz_target!(|bytes: &[u8]| {
    static SOUND: OnceLock<[MemoryPages; 3]> = OnceLock::new();
    let sound = SOUND.get_or_init(|| KINDS.map(Kind::pages));
    let mut input = Decisions::new(bytes);
    let chosen = input.below(KINDS.len());
    let mut pages = sound[chosen].clone();
    damage(&mut pages, &mut input);
    use_all(KINDS[chosen], pages, &mut input);
});
