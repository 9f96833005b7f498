//! Settings of the access method: names and ranges of pgvector's, everybody's to set.
//!
//! Two defaults differ. A scan goes on until the query has its rows (`hnsw.iterative_scan`, off in pgvector), and
//! nothing ends it early (`hnsw.max_scan_tuples`, 20,000 in pgvector). In strict order a row that is found after a farther
//! one was returned comes at the end of all rows, where pgvector leaves it out: a LIMIT that is reached before has its rows
//! in order, and one that wants more rows than there are gets them all.

use std::sync::OnceLock;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// The range of `hnsw.ef_search`.
pub const MIN_EF_SEARCH: i32 = 1;
pub const MAX_EF_SEARCH: i32 = 1000;
/// The value of `hnsw.max_scan_tuples` that means no limit.
const NO_LIMIT: i32 = i32::MAX;

/// What a scan does when the rows that it found first are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum IterativeScan {
    /// It ends.
    #[name = c"off"]
    Off,
    /// It searches on; a row may come that is nearer than one returned before.
    #[name = c"relaxed_order"]
    RelaxedOrder,
    /// It searches on; a row that is found after a farther one was returned comes when the search is at its end.
    #[name = c"strict_order"]
    StrictOrder,
}

static EF_SEARCH: GucSetting<i32> = GucSetting::<i32>::new(40);
static ITERATIVE_SCAN: GucSetting<IterativeScan> = GucSetting::<IterativeScan>::new(IterativeScan::StrictOrder);
static MAX_SCAN_TUPLES: GucSetting<i32> = GucSetting::<i32>::new(NO_LIMIT);
static SCAN_MEM_MULTIPLIER: GucSetting<f64> = GucSetting::<f64>::new(1.0);
static TARGET_RECALL: GucSetting<f64> = GucSetting::<f64>::new(0.0);

/// Candidates that a search keeps: 1 to 1,000. Without meaning where [`target_recall`] is set.
pub fn ef_search() -> usize {
    // In its range, which is positive.
    EF_SEARCH.get().unsigned_abs() as usize
}

/// What a scan does when the rows that it found first are used up.
pub fn iterative_scan() -> IterativeScan {
    ITERATIVE_SCAN.get()
}

/// How many rows of the index a scan visits before it only returns what it has; None without limit.
pub fn max_scan_tuples() -> Option<u64> {
    let limit = MAX_SCAN_TUPLES.get();
    (limit != NO_LIMIT).then(|| u64::from(limit.unsigned_abs()))
}

/// The recall for which `ef_search` is to be chosen; None where the setting counts.
pub fn target_recall() -> Option<f64> {
    Some(TARGET_RECALL.get()).filter(|&recall| recall > 0.0)
}

/// Defines the settings, unless this process has.
pub fn init_once() {
    static DEFINED: OnceLock<()> = OnceLock::new();
    DEFINED.get_or_init(init);
}

/// Defines the settings and reserves their prefix.
fn init() {
    GucRegistry::define_int_guc(
        c"hnsw.ef_search",
        c"Number of candidates that a search of an hnsw index keeps.",
        c"More find more of the true neighbours, and take longer.",
        &EF_SEARCH,
        MIN_EF_SEARCH,
        MAX_EF_SEARCH,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"hnsw.iterative_scan",
        c"What a scan of an hnsw index does when a query wants more rows than it found at first.",
        c"off ends it, relaxed_order and strict_order search on; a row found after a farther one was returned comes at once with relaxed_order, and last with strict_order.",
        &ITERATIVE_SCAN,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"hnsw.max_scan_tuples",
        c"Number of rows of an hnsw index that a scan visits before it searches no further.",
        c"The largest value means no limit. The first search is not limited.",
        &MAX_SCAN_TUPLES,
        1,
        NO_LIMIT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"hnsw.scan_mem_multiplier",
        c"Accepted for compatibility with pgvector, and without effect.",
        c"A scan of an hnsw index takes the memory that it needs: some 40 bytes per node that it looks at.",
        &SCAN_MEM_MULTIPLIER,
        1.0,
        1000.0,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"hnsw.target_recall",
        c"Share of the true nearest neighbours that a search of an hnsw index should find.",
        c"ef_search is chosen per index from the calibration that the build stored. 0 means that hnsw.ef_search counts.",
        &TARGET_RECALL,
        0.0,
        1.0,
        GucContext::Userset,
        GucFlags::default(),
    );
    crate::pg::settings::reserve_prefix(c"hnsw");
}
