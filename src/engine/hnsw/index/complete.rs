//! What a build in parts leaves to do on pages: ways to nodes that nothing leads to, the table of recall, and the rows that
//! it was measured with.

use std::rc::Rc;

use super::insert::Inserter;
use super::node_set::NodeSet;
use super::open::Index;
use super::read::IndexGraph;
use super::store::PageStore;
use super::vacuum::VacuumReport;
use super::write::only;
use crate::hnsw::build::parts::Remainder;
use crate::hnsw::page::{Meta, META_BLOCK};

impl<S: PageStore> Index<S> {
    /// Completes an index whose graph a build in parts has written. Nobody else uses it yet. Gives the number of nodes that
    /// had to be connected.
    pub fn complete(&mut self, remainder: &Remainder) -> Result<u32, S::Error> {
        let mut inserter = Inserter::default();
        let mut report = VacuumReport::default();
        self.connect(&mut inserter, &NodeSet::default(), &mut report)?;
        if let Some(entry) = self.entry_point()? {
            let calibration = remainder.samples.calibration(|width| {
                let mut graph = IndexGraph { index: self, scratch: &mut inserter.scratch };
                remainder.samples.recall(&mut graph, entry, width)
            })?;
            self.store.change(&[META_BLOCK], |pages| {
                let page = only(pages)?;
                let mut meta = Meta::decode(page)?;
                meta.calibration = calibration.clone();
                meta.encode(page)
            })?;
        }
        for held in &remainder.held {
            let shape = Rc::clone(&self.shape);
            let (code, keys) = shape.row_keys.split(&held.code);
            if let Ok(query) = shape.codec.query_of_code(code) {
                self.insert_code(&mut inserter, &query, code, keys, held.heap_tid)?;
            }
        }
        if !remainder.held.is_empty() {
            // Lists that took these rows have given up others; with short lists that can be the only way to one.
            self.connect(&mut inserter, &NodeSet::default(), &mut report)?;
        }
        Ok(report.nodes_reconnected)
    }
}
