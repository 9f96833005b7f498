//! A scan's state: rows in the order of their exact distances, for as long as the executor asks.
//!
//! Candidates come from the engine in batches, by the distance of their codes. Where codes are estimates, rows are read
//! from the table until the nearest of those read is certainly nearer than all that is left of the batch; it is returned
//! then. So about as many rows are read as are returned, and a few more. A row that is farther than what the search has
//! put off waits for the next batch. A row that is found after a farther one was returned waits until the search is at
//! its end, and comes last: out of order, but not missing.

use super::rerank::RowReader;
use super::workspace::{Nearest, NodeRows, Workspace};
use super::ScanStatistics;
use crate::hnsw::cache;
use crate::hnsw::errors::IndexError;
use crate::hnsw::filter_scan::filter_of;
use crate::hnsw::mask::{self, MaskSource};
use crate::hnsw::opclass::{IndexColumns, IndexedColumn};
use crate::hnsw::settings::{self, IterativeScan};
use crate::hnsw::store::RelationStore;
use crate::hnsw::value::Stored;
use pg_rag_engine::hnsw::filter::{Filter, RowMask};
use pg_rag_engine::hnsw::index::{filtered, Candidate, ChunkRead, Index, ScanCounts};
use pg_rag_engine::hnsw::page::{HeapTid, Metric};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::{pg_sys, PgMemoryContexts, PgSqlErrorCode};
use std::rc::Rc;

/// The share of what making a mask and searching with it costs that a search without one may take. Most that succeed do
/// so early; at 1, one that does not takes twice as long as with a mask from the beginning.
const PATIENCE: f64 = 0.8;

/// The value that is searched for.
#[derive(Clone, Copy)]
struct QueryDatum {
    datum: pg_sys::Datum,
    is_null: bool,
}

/// A scan between `amrescan` and `amendscan`.
pub struct ScanState {
    columns: IndexColumns,
    column: IndexedColumn,
    index: Option<Index<RelationStore>>,
    reader: Option<RowReader>,
    work: Workspace,
    query: Option<QueryDatum>,
    /// Whether rows have to be read for their distances.
    reranks: bool,
    has_begun: bool,
    is_exhausted: bool,
    /// Rows up to this distance are in order before the next batch is there.
    horizon: f64,
    order: IterativeScan,
    last: f64,
    /// The rows among which is searched, if other indexes have given them.
    mask: Option<Rc<RowMask>>,
    /// Where there is no mask yet: how to get one when the search turns out to be long.
    source: Option<MaskSource>,
    /// What making it and searching with it would cost.
    mask_cost: f64,
    /// What the search had done, and rows had been read, when it began.
    begun_at: (u64, u64),
    /// What the workspace had counted before this scan took it.
    counted_before: ScanCounts,
    way: &'static str,
    candidates: u64,
    heap_fetches: u64,
    late_rows: u64,
}

impl ScanState {
    pub fn new(columns: IndexColumns) -> ScanState {
        let work = Workspace::take();
        ScanState {
            column: columns.vector,
            columns,
            index: None,
            reader: None,
            counted_before: work.scan.counts(),
            work,
            mask: None,
            source: None,
            mask_cost: 0.0,
            begun_at: (0, 0),
            way: "none",
            candidates: 0,
            heap_fetches: 0,
            late_rows: 0,
            query: None,
            reranks: false,
            has_begun: false,
            is_exhausted: false,
            horizon: f64::INFINITY,
            order: IterativeScan::Off,
            last: f64::NEG_INFINITY,
        }
    }

    /// Before a search for what the order-by key says. A mask stays.
    pub fn reset(&mut self, order_by: Option<&pg_sys::ScanKeyData>) {
        self.work.clear();
        self.has_begun = false;
        self.is_exhausted = false;
        self.last = f64::NEG_INFINITY;
        self.query = order_by
            .map(|key| QueryDatum { datum: key.sk_argument, is_null: key.sk_flags & pg_sys::SK_ISNULL as i32 != 0 });
        if let Some(reader) = &mut self.reader {
            reader.reset();
        }
    }

    /// Lets go of the relations' resources, and of the memory for the next scan.
    pub fn end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.end();
        }
        if let Some(index) = self.index.take() {
            cache::close(index);
        }
        std::mem::take(&mut self.work).keep();
    }

    pub fn set_mask(&mut self, mask: Option<Rc<RowMask>>) {
        self.mask = mask;
    }

    pub fn set_mask_source(&mut self, source: MaskSource) {
        self.source = Some(source);
    }

    pub fn statistics(&self) -> ScanStatistics {
        let (counts, before) = (self.work.scan.counts(), self.counted_before);
        ScanStatistics {
            way: self.way,
            nodes_visited: counts.visited - before.visited,
            distances: counts.scored - before.scored,
            filtered: counts.rejected - before.rejected,
            candidates: self.candidates,
            heap_fetches: self.heap_fetches,
            late_rows: self.late_rows,
        }
    }

    /// The next row.
    ///
    /// # Safety
    /// `scan` is the scan that this is the state of.
    pub unsafe fn next(&mut self, scan: pg_sys::IndexScanDesc) -> Result<Option<HeapTid>, IndexError> {
        // SAFETY: the caller's promise.
        unsafe {
            if !self.has_begun {
                self.has_begun = true;
                self.begin(scan)?;
            }
            loop {
                if self.is_mask_worth_it() {
                    self.go_on_with_mask(scan)?;
                }
                if let Some(tid) = self.next_of_batch(scan)? {
                    if self.source.is_some() && self.mask.is_none() {
                        self.work.returned.insert(tid);
                    }
                    return Ok(Some(tid));
                }
                // The search is over when there is neither a further batch nor a row in hand.
                if !self.next_batch()? && self.work.rows.is_empty() {
                    return Ok(self.next_late());
                }
            }
        }
    }

    /// Whether the search has taken so much work that it is time to try a mask: it may go on for long.
    fn is_mask_worth_it(&self) -> bool {
        if self.source.is_none() || self.mask.is_some() || self.is_exhausted {
            return false;
        }
        let (scored, fetched) = self.begun_at;
        let scored = self.work.scan.counts().scored - scored;
        filtered::spent(scored as f64, (self.heap_fetches - fetched) as f64) > PATIENCE * self.mask_cost
    }

    /// Begins anew with a mask. Rows that were returned are not returned again.
    unsafe fn go_on_with_mask(&mut self, scan: pg_sys::IndexScanDesc) -> Result<(), IndexError> {
        let Some(source) = &mut self.source else { return Ok(()) };
        self.mask = Some((source.make)());
        self.work.batch.clear();
        self.work.nodes.clear();
        self.work.rows.clear();
        self.work.late.clear();
        self.work.opened.clear();
        // SAFETY: the caller's scan.
        unsafe { self.begin(scan) }
    }

    /// Searches for the first batch.
    unsafe fn begin(&mut self, scan: pg_sys::IndexScanDesc) -> Result<(), IndexError> {
        self.begun_at = (self.work.scan.counts().scored, self.heap_fetches);
        // SAFETY: the relations of a scan are open until it ends.
        unsafe {
            let relation = (*scan).indexRelation;
            let Some(query) = self.query else {
                let message = "cannot scan hnsw index without order";
                raise(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
            };
            if (*scan).xs_snapshot.is_null()
                || !matches!(
                    (*(*scan).xs_snapshot).snapshot_type,
                    pg_sys::SnapshotType::SNAPSHOT_MVCC | pg_sys::SnapshotType::SNAPSHOT_HISTORIC_MVCC
                )
            {
                raise(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "non-MVCC snapshots are not supported with hnsw")
            }
            if self.index.is_none() {
                self.index = Some(cache::open(relation)?);
            }
            let Some(index) = &mut self.index else { return Ok(()) };
            if self.mask.is_none() || self.source.is_none() {
                // Else it was counted when it began without.
                count_scan(relation);
            }
            let shape = std::rc::Rc::clone(index.shape());
            let stored = if query.is_null { None } else { Stored::read(self.column.element, query.datum) };
            if let Some(stored) = &stored {
                stored.value().check_query(self.column.dimensions).unwrap_or_report();
            }
            // Nothing is nearer than anything else to NULL, or under the cosine to zero.
            let value = stored.as_ref().map(Stored::value);
            let value = value.filter(|value| self.column.metric != Metric::Cosine || !value.is_zero_norm());
            self.reranks = value.is_some() && !shape.codec.is_exact();
            self.order = settings::iterative_scan();
            let ef = settings::target_recall()
                .and_then(|recall| shape.ef_for(recall as f32))
                .unwrap_or(settings::ef_search());
            let prepared = match &value {
                Some(value) => shape.codec.query(value.values())?,
                None => {
                    self.order = IterativeScan::RelaxedOrder;
                    shape.codec.query_of_nothing()?
                }
            };
            let mut filter = filter(&self.columns, scan);
            let rows = match (&self.mask, &value) {
                // Of rows that are not in a partial index nobody checks its predicate.
                (Some(mask), Some(_)) if pg_sys::RelationGetIndexPredicate(relation).is_null() => {
                    mask::rows_to_read(mask, &filter, index, ef)
                }
                _ => None,
            };
            if let Some(source) = &self.source {
                self.mask_cost = mask::cost(source.rows, index, ef);
            }
            if let Some(mask) = &self.mask {
                filter.within(Rc::clone(mask));
            }
            self.reranks |= rows.is_some();
            if self.reranks && self.reader.is_none() {
                self.reader = Some(RowReader::begin((*scan).heapRelation, relation, self.column.place));
            }
            if let Some(rows) = rows {
                self.take_rows(scan, rows);
                return Ok(());
            }
            index.begin_filtered_scan(&mut self.work.scan, prepared, ef, filter, &mut self.work.batch)?;
        }
        self.take_batch();
        Ok(())
    }

    /// Reads rows for their distances, all of them and in the order of the table, instead of a search.
    ///
    /// # Safety
    /// `scan` is the scan that this is the state of; it reads rows.
    unsafe fn take_rows(&mut self, scan: pg_sys::IndexScanDesc, rows: Vec<HeapTid>) {
        self.way = "rows";
        self.is_exhausted = true;
        self.horizon = f64::INFINITY;
        self.candidates += rows.len() as u64;
        self.work.tids.clear();
        self.work.tids.extend(rows.into_iter().filter(|tid| !self.work.returned.contains(tid)));
        // SAFETY: the caller's promise.
        unsafe { self.read_rows(scan) };
    }

    /// Takes the candidates of a batch.
    fn take_batch(&mut self) {
        self.way = self.work.scan.regime().map_or("plain", |regime| regime.name());
        self.candidates += self.work.batch.len() as u64;
        let is_squared = self.column.metric == Metric::L2;
        let rows = self.work.batch.drain(..).map(|candidate| {
            let Candidate { node, row, bound, .. } = candidate;
            let bound = if is_squared { f64::from(bound).sqrt() } else { f64::from(bound) };
            Nearest(
                bound,
                NodeRows { node, version: row.version, heap_tid: Some(row.heap_tid), overflow: row.overflow },
            )
        });
        self.work.nodes.extend(rows);
        let horizon = f64::from(self.work.scan.horizon());
        self.horizon = if is_squared { horizon.max(0.0).sqrt() } else { horizon };
    }

    /// Whether there may be a further batch.
    fn may_go_on(&self) -> bool {
        let is_limited = settings::max_scan_tuples().is_some_and(|most| self.work.scan.seen() as u64 >= most);
        !self.is_exhausted && self.order != IterativeScan::Off && !is_limited
    }

    /// Goes on with the search; false if it is over.
    fn next_batch(&mut self) -> Result<bool, IndexError> {
        if !self.may_go_on() {
            return Ok(false);
        }
        let Some(index) = &mut self.index else { return Ok(false) };
        let seen = self.work.scan.seen() as u64;
        let most = settings::max_scan_tuples().map_or(usize::MAX, |most| most.saturating_sub(seen) as usize);
        if !index.continue_scan(&mut self.work.scan, most, &mut self.work.batch)? {
            self.is_exhausted = true;
            return Ok(false);
        }
        self.take_batch();
        Ok(true)
    }

    /// The next row of what is in hand.
    unsafe fn next_of_batch(&mut self, scan: pg_sys::IndexScanDesc) -> Result<Option<HeapTid>, IndexError> {
        loop {
            let bound = self.work.nodes.peek().map(|Nearest(bound, _)| *bound);
            if let Some(&Nearest(distance, tid)) = self.work.rows.peek() {
                if bound.is_none_or(|bound| distance <= bound) {
                    if distance > self.horizon && self.may_go_on() {
                        return Ok(None);
                    }
                    self.work.rows.pop();
                    if self.order == IterativeScan::StrictOrder && distance < self.last {
                        self.work.late.push(Nearest(distance, tid));
                        continue;
                    }
                    self.last = distance;
                    return Ok(Some(tid));
                }
            }
            let Some(Nearest(bound, rows)) = self.work.nodes.pop() else { return Ok(None) };
            // SAFETY: the caller's scan.
            unsafe { self.open_node(scan, bound, rows)? };
        }
    }

    /// The next of the rows that were found too late to be in order.
    fn next_late(&mut self) -> Option<HeapTid> {
        let Nearest(_, tid) = self.work.late.pop()?;
        self.late_rows += 1;
        Some(tid)
    }

    /// Moves rows of a node to the rows in hand, with their distances: those of its first tids, or of a chunk of further
    /// ones.
    unsafe fn open_node(&mut self, scan: pg_sys::IndexScanDesc, bound: f64, rows: NodeRows) -> Result<(), IndexError> {
        self.work.tids.clear();
        let has_chain = rows.heap_tid.is_none() || rows.overflow.is_some();
        if let Some(rows) = self.take_tids(rows)? {
            self.work.nodes.push(Nearest(bound, rows));
        }
        // A node may hold rows that are not in the mask, and some may have been returned before there was one.
        if has_chain || self.source.is_some() {
            let mask = self.mask.as_deref();
            let Workspace { tids, opened, returned, .. } = &mut self.work;
            tids.retain(|tid| {
                let is_wanted = mask.is_none_or(|mask| mask.contains(*tid)) && !returned.contains(tid);
                is_wanted && (!has_chain || opened.insert(*tid))
            });
        }
        if !self.reranks {
            self.work.rows.extend(self.work.tids.drain(..).map(|tid| Nearest(bound, tid)));
            return Ok(());
        }
        // SAFETY: the caller's scan.
        unsafe { self.read_rows(scan) };
        Ok(())
    }

    /// Moves the rows of the tids in hand to the rows in hand, with the distances that they have in the table.
    unsafe fn read_rows(&mut self, scan: pg_sys::IndexScanDesc) {
        let (Some(reader), Some(query)) = (&mut self.reader, self.query) else { return };
        // SAFETY: the order-by key's value lives as long as the scan; the snapshot is the scan's.
        unsafe {
            let Some(stored) = Stored::read(self.column.element, query.datum) else { return };
            let value = stored.value();
            self.heap_fetches += self.work.tids.len() as u64;
            for tid in self.work.tids.drain(..) {
                pgrx::check_for_interrupts!();
                let distance = reader.distance((*scan).xs_snapshot, tid, &self.column, &value);
                // A zero vector under the cosine is not in the index.
                if let Some(distance) = distance.filter(|distance| !distance.is_nan()) {
                    self.work.rows.push(Nearest(distance, tid));
                }
            }
        }
    }

    /// Takes the next heap tids of a node into `self.tids`; gives what is left then.
    fn take_tids(&mut self, rows: NodeRows) -> Result<Option<NodeRows>, IndexError> {
        let Some(index) = &mut self.index else { return Ok(None) };
        let left = NodeRows { heap_tid: None, ..rows };
        if let Some(tid) = rows.heap_tid {
            self.work.tids.push(tid);
            return Ok(rows.overflow.map(|_| left));
        }
        let Some(chunk) = rows.overflow else {
            self.work.tids.extend(index.row_now(rows.node, rows.version)?.map(|row| row.heap_tid));
            return Ok(None);
        };
        Ok(match index.tid_chunk(rows.node, chunk, &mut self.work.tids)? {
            ChunkRead::Next(overflow) => Some(NodeRows { overflow, ..left }),
            // A vacuum has given the chunk away: begin the chain again.
            ChunkRead::Gone => {
                index.row_now(rows.node, rows.version)?.map(|row| NodeRows { overflow: row.overflow, ..left })
            }
        })
    }
}

/// What the conditions of a scan ask of the filter columns.
///
/// # Safety
/// The scan is running.
unsafe fn filter(columns: &IndexColumns, scan: pg_sys::IndexScanDesc) -> Filter {
    // SAFETY: the scan has so many keys.
    let keys = unsafe {
        let count = usize::try_from((*scan).numberOfKeys).unwrap_or(0);
        if count == 0 {
            return Filter::default();
        }
        std::slice::from_raw_parts((*scan).keyData, count)
    };
    // What reading the values takes is freed.
    // SAFETY: the keys are the scan's.
    unsafe { PgMemoryContexts::new("hnsw scan keys").switch_to(|_| filter_of(columns, keys)) }
}

/// Counts the scan in `pg_stat_user_indexes`.
unsafe fn count_scan(index: pg_sys::Relation) {
    // SAFETY: reading its metapage has given the index its statistics, if they are kept.
    unsafe {
        #[cfg(feature = "pg15")]
        if let Some(statistics) = (*index).pgstat_info.as_mut() {
            statistics.t_counts.t_numscans += 1;
        }
        #[cfg(not(feature = "pg15"))]
        if let Some(statistics) = (*index).pgstat_info.as_mut() {
            statistics.counts.numscans += 1;
        }
    }
}

fn raise(code: PgSqlErrorCode, message: &'static str) -> ! {
    let error: Result<std::convert::Infallible, ErrorReport> = Err(ErrorReport::new(code, message, "hnsw"));
    match error.unwrap_or_report() {}
}
