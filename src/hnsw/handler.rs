//! What PostgreSQL is told about the access method.
//!
//! Everything that is not set here is false, zero or NULL: no unique, clustered or covering indexes, no bitmap,
//! backward, parallel or index-only scans, no marks, no predicate locks.

use super::{build, cost, insert, options, scan, vacuum, validate};
use pgrx::prelude::*;
use pgrx::{AllocatedByRust, PgBox};

/// Support function 1 of an operator class: the distance that the ordering operator computes.
pub const DISTANCE_PROCEDURE: u16 = 1;
/// Support function 2 of an operator class: its element type and metric, as [`super::opclass`] reads them.
pub const TERMS_PROCEDURE: u16 = 2;

/// The routine of the access method, in the memory of the caller.
#[pg_extern(sql = false)]
fn hnsw_handler(_fcinfo: pg_sys::FunctionCallInfo) -> PgBox<pg_sys::IndexAmRoutine, AllocatedByRust> {
    super::settings::init_once();
    super::opclass_hint::init();
    // SAFETY: a zeroed node of this tag; every field of it may be zero.
    let mut routine = unsafe { PgBox::<pg_sys::IndexAmRoutine>::alloc_node(pg_sys::NodeTag::T_IndexAmRoutine) };

    // No fixed set of strategies: those of a class for vectors and of one for filter columns differ.
    routine.amstrategies = 0;
    routine.amsupport = TERMS_PROCEDURE;
    routine.amcanorderbyop = true;
    // A vector and filter columns, in any order; a scan needs conditions on none of them.
    routine.amcanmulticol = true;
    routine.amoptionalkey = true;
    routine.amsearcharray = true;
    routine.amsearchnulls = true;
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    {
        routine.amcanbuildparallel = true;
    }
    // Deleting is for one worker per index; what follows it is too little to share. The bits fit: there are three.
    routine.amparallelvacuumoptions = pg_sys::VACUUM_OPTION_PARALLEL_BULKDEL as u8;
    routine.amkeytype = pg_sys::InvalidOid;

    routine.ambuild = Some(build::ambuild);
    routine.ambuildempty = Some(build::ambuildempty);
    routine.ambuildphasename = Some(build::ambuildphasename);
    routine.aminsert = Some(insert::aminsert);
    routine.ambulkdelete = Some(vacuum::ambulkdelete);
    routine.amvacuumcleanup = Some(vacuum::amvacuumcleanup);
    routine.amcostestimate = Some(cost::amcostestimate);
    routine.amoptions = Some(options::amoptions);
    routine.amvalidate = Some(validate::amvalidate);
    routine.ambeginscan = Some(scan::ambeginscan);
    routine.amrescan = Some(scan::amrescan);
    routine.amgettuple = Some(scan::amgettuple);
    routine.amendscan = Some(scan::amendscan);
    routine
}
