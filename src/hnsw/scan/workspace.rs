//! What a scan holds: nodes and rows that wait for their turn. The next scan of the process uses the memory again.

use pg_rag_engine::hnsw::index::{Candidate, Scan};
use pg_rag_engine::hnsw::page::HeapTid;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};

/// A row or a node by its distance or bound: the least first.
pub struct Nearest<T>(pub f64, pub T);

impl<T> PartialEq for Nearest<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Nearest<T> {}

impl<T> PartialOrd for Nearest<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Nearest<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0)
    }
}

/// What is left of a node's rows: its first, then a chain of chunks, then its first again, since a vacuum may move a row
/// from the chain there.
#[derive(Clone, Copy)]
pub struct NodeRows {
    pub node: u32,
    pub version: u16,
    pub heap_tid: Option<HeapTid>,
    pub overflow: Option<u32>,
}

/// The memory of a scan, which the next one of the process uses again: taken from the system and given back for every
/// search, it would cost as much as a tenth of that.
#[derive(Default)]
pub struct Workspace {
    pub scan: Scan,
    pub batch: Vec<Candidate>,
    /// Nodes whose rows were not read, by the bound of their distance.
    pub nodes: BinaryHeap<Nearest<NodeRows>>,
    /// Rows by their distance.
    pub rows: BinaryHeap<Nearest<HeapTid>>,
    /// Rows that were found after a farther one was returned.
    pub late: BinaryHeap<Nearest<HeapTid>>,
    pub tids: Vec<HeapTid>,
    /// Rows of nodes with chains, which may be met twice.
    pub opened: HashSet<HeapTid>,
    /// Rows that were returned before there was a mask, if one may come.
    pub returned: HashSet<HeapTid>,
}

/// A workspace that has grown beyond this is not kept.
const KEPT_BYTES: usize = 4 << 20;

thread_local! {
    static WORKSPACE: RefCell<Option<Workspace>> = const { RefCell::new(None) };
}

impl Workspace {
    /// The one kept, if there is one and no other scan uses it.
    pub fn take() -> Workspace {
        WORKSPACE.with_borrow_mut(Option::take).unwrap_or_default()
    }

    /// Keeps it for the next scan.
    pub fn keep(mut self) {
        self.clear();
        let bytes = self.scan.memory_bytes()
            + self.batch.capacity() * size_of::<Candidate>()
            + self.nodes.capacity() * size_of::<Nearest<NodeRows>>()
            + (self.rows.capacity() + self.late.capacity()) * size_of::<Nearest<HeapTid>>()
            + (self.opened.capacity() + self.returned.capacity()) * size_of::<HeapTid>();
        if bytes <= KEPT_BYTES {
            WORKSPACE.with_borrow_mut(|kept| *kept = Some(self));
        }
    }

    pub fn clear(&mut self) {
        self.scan.end();
        self.batch.clear();
        self.nodes.clear();
        self.rows.clear();
        self.late.clear();
        self.tids.clear();
        self.opened.clear();
        self.returned.clear();
    }
}
