//! How much memory a build takes: the estimate, the warning, the memory.

use super::cache;
use pg_rag_engine::hnsw::build::{Arena, ArenaShape};
use pg_rag_engine::hnsw::page::meta::Identity;
use pgrx::{pg_sys, PgSqlErrorCode};
use std::sync::atomic::AtomicU32;

/// How large the graph will be.
pub struct Estimate {
    pub rows: f64,
    pub bytes: f64,
    /// `maintenance_work_mem`.
    pub limit_bytes: usize,
}

/// Nodes vary in size, and estimates of rows in truth.
const SLACK: f64 = 1.25;
const LEAST_BYTES: usize = 1 << 20;

impl Estimate {
    /// # Safety
    /// `heap` is open.
    pub unsafe fn of(heap: pg_sys::Relation, node_bytes: usize) -> Estimate {
        let (mut pages, mut rows, mut visible) = (0, 0.0, 0.0);
        // SAFETY: the relation is open.
        unsafe { pg_sys::estimate_rel_size(heap, std::ptr::null_mut(), &mut pages, &mut rows, &mut visible) };
        // SAFETY: a setting.
        let limit_bytes = unsafe { pg_sys::maintenance_work_mem } as usize * 1024;
        Estimate { rows, bytes: rows * node_bytes as f64, limit_bytes }
    }

    /// Bytes to allocate where memory is only taken as it is used.
    pub fn own_bytes(&self) -> usize {
        self.limit_bytes.max(LEAST_BYTES)
    }

    /// Bytes to allocate where memory is taken at once.
    pub fn shared_bytes(&self) -> usize {
        ((self.bytes * SLACK) as usize + LEAST_BYTES).min(self.limit_bytes)
    }

    /// Whether the graph fits into the memory allowed.
    pub fn fits(&self) -> bool {
        self.bytes <= self.limit_bytes as f64
    }

    /// Warns if the graph will not fit.
    pub fn warn(&self, index: pg_sys::Relation) {
        if self.fits() {
            return;
        }
        let name = cache::name(index);
        let megabytes = |bytes: f64| (bytes / 1_048_576.0).ceil();
        pgrx::ereport!(
            pgrx::PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("index \"{name}\" needs about {} MB to be built in memory", megabytes(self.bytes)),
            format!(
                "maintenance_work_mem is {} MB, so it is built in parts, which takes two to five times as long.",
                megabytes(self.limit_bytes as f64)
            )
        );
    }
}

/// Zeroed memory that is only taken as it is used.
pub struct Memory(Vec<u32>);

impl Memory {
    pub fn new(bytes: usize) -> Memory {
        Memory(vec![0; bytes / 4])
    }

    /// The arena in this memory.
    pub fn arena(&self, identity: &Identity) -> Arena<'_> {
        // SAFETY: the same size and alignment; the words are only used as atomics while they are borrowed.
        let words = unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast::<AtomicU32>(), self.0.len()) };
        Arena::new(words, ArenaShape::of(identity))
    }
}
