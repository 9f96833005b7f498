//! `amvalidate`: whether an operator class is one that this access method can use.

use super::opclass::{DISTANCE_PROC, TERMS_PROC};
use pgrx::{pg_guard, pg_sys, Spi};

/// What makes a class unfit, if anything does: it must have one ordering operator, which is strategy 1 and returns
/// `double precision`, a distance between its input type, and the function that names element type and metric.
const FLAWS: &str = "
    SELECT pg_catalog.concat_ws('; ',
        CASE WHEN NOT EXISTS (
            SELECT FROM pg_catalog.pg_amop o JOIN pg_catalog.pg_operator p ON p.oid = o.amopopr
             WHERE o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype AND o.amoppurpose = 'o'
               AND o.amopstrategy = 1 AND p.oprresult = 'pg_catalog.float8'::pg_catalog.regtype)
             THEN 'has no ordering operator 1 that returns double precision' END,
        CASE WHEN EXISTS (
            SELECT FROM pg_catalog.pg_amop o
             WHERE o.amopfamily = c.opcfamily AND (o.amopstrategy <> 1 OR o.amoppurpose <> 'o'))
             THEN 'has an operator other than ordering operator 1' END,
        CASE WHEN NOT EXISTS (
            SELECT FROM pg_catalog.pg_amproc f JOIN pg_catalog.pg_proc p ON p.oid = f.amproc
             WHERE f.amprocfamily = c.opcfamily AND f.amproclefttype = c.opcintype AND f.amprocnum = $2
               AND p.prorettype = 'pg_catalog.float8'::pg_catalog.regtype AND p.pronargs = 2)
             THEN 'has no distance as support function 1' END,
        CASE WHEN NOT EXISTS (
            SELECT FROM pg_catalog.pg_amproc f JOIN pg_catalog.pg_proc p ON p.oid = f.amproc
             WHERE f.amprocfamily = c.opcfamily AND f.amproclefttype = c.opcintype AND f.amprocnum = $3
               AND p.prorettype = 'pg_catalog.internal'::pg_catalog.regtype AND p.pronargs = 1)
             THEN 'has no support function 2 that names its type and metric' END)
      FROM pg_catalog.pg_opclass c WHERE c.oid = $1";

/// # Safety
/// Called by PostgreSQL.
#[pg_guard]
pub unsafe extern "C-unwind" fn amvalidate(class: pg_sys::Oid) -> bool {
    let arguments = [class.into(), i32::from(DISTANCE_PROC).into(), i32::from(TERMS_PROC).into()];
    match Spi::get_one_with_args::<String>(FLAWS, &arguments) {
        Ok(Some(flaws)) if flaws.is_empty() => true,
        Ok(Some(flaws)) => {
            pgrx::info!("operator class {} of access method hnsw {flaws}", class.to_u32());
            false
        }
        _ => false,
    }
}
