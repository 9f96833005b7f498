//! What is measured in one go: one number of dimensions and one metric.

use crate::data::Dataset;
use crate::options::Options;
use crate::truth::{Metric, Truth};

pub struct Case<'a> {
    pub data: &'a Dataset,
    pub metric: Metric,
    pub truth: Truth<'a>,
    pub options: &'a Options,
}

impl Case<'_> {
    pub fn dimensions(&self) -> usize {
        self.data.collection.dimensions
    }

    /// How a figure of this case is called.
    pub fn name(&self, what: &str) -> String {
        format!("{} {} {what}", self.dimensions(), self.metric.name())
    }

    /// The table of this number of dimensions.
    pub fn table(&self) -> String {
        format!("items_{}", self.dimensions())
    }

    /// The one index on it.
    pub fn index(&self) -> String {
        format!("{}_v_idx", self.table())
    }

    pub fn search_statement(&self) -> String {
        format!("SELECT id FROM {} ORDER BY v {} $1 LIMIT 10", self.table(), self.metric.operator())
    }
}
