//! The settings `hnsw.*`: names and ranges of pgvector's. Defaults differ where that would give short results.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// What a scan does when the first beam is used up and the executor wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum IterativeScan {
    /// It ends.
    #[name = c"off"]
    Off,
    /// It goes on; rows come as they are found.
    #[name = c"relaxed_order"]
    RelaxedOrder,
    /// It goes on; a row that is found too late to be in order is left out.
    #[name = c"strict_order"]
    StrictOrder,
}

static EF_SEARCH: GucSetting<i32> = GucSetting::<i32>::new(40);
static ITERATIVE_SCAN: GucSetting<IterativeScan> = GucSetting::<IterativeScan>::new(IterativeScan::StrictOrder);
static MAX_SCAN_TUPLES: GucSetting<i32> = GucSetting::<i32>::new(i32::MAX);
static SCAN_MEM_MULTIPLIER: GucSetting<f64> = GucSetting::<f64>::new(1.0);
static TARGET_RECALL: GucSetting<f64> = GucSetting::<f64>::new(0.0);

/// Width of the beam of a search.
pub fn ef_search() -> usize {
    EF_SEARCH.get().max(1) as usize
}

pub fn iterative_scan() -> IterativeScan {
    ITERATIVE_SCAN.get()
}

/// Nodes that a scan may look at after its first beam.
pub fn max_scan_tuples() -> usize {
    MAX_SCAN_TUPLES.get().max(1) as usize
}

/// Recall by which the width is chosen; None if `hnsw.ef_search` counts.
pub fn target_recall() -> Option<f32> {
    Some(TARGET_RECALL.get() as f32).filter(|&recall| recall > 0.0)
}

/// Defines the settings and reserves their prefix.
pub fn init() {
    let flags = GucFlags::default;
    GucRegistry::define_int_guc(
        c"hnsw.ef_search",
        c"Number of candidates that a search keeps.",
        c"More find more of the nearest rows, and take longer.",
        &EF_SEARCH,
        1,
        1000,
        GucContext::Userset,
        flags(),
    );
    GucRegistry::define_enum_guc(
        c"hnsw.iterative_scan",
        c"Whether a scan goes on when its first candidates do not suffice.",
        c"",
        &ITERATIVE_SCAN,
        GucContext::Userset,
        flags(),
    );
    GucRegistry::define_int_guc(
        c"hnsw.max_scan_tuples",
        c"Number of rows after which a scan does not go on.",
        c"The largest value means no limit.",
        &MAX_SCAN_TUPLES,
        1,
        i32::MAX,
        GucContext::Userset,
        flags(),
    );
    GucRegistry::define_float_guc(
        c"hnsw.scan_mem_multiplier",
        c"Accepted for compatibility; a scan takes what it needs.",
        c"",
        &SCAN_MEM_MULTIPLIER,
        1.0,
        1000.0,
        GucContext::Userset,
        flags(),
    );
    GucRegistry::define_float_guc(
        c"hnsw.target_recall",
        c"Share of the nearest rows that a search is to find.",
        c"The number of candidates is chosen per index, from what its build measured. 0 means that hnsw.ef_search counts.",
        &TARGET_RECALL,
        0.0,
        1.0,
        GucContext::Userset,
        flags(),
    );
    crate::pg::settings::reserve_prefix(c"hnsw");
}
