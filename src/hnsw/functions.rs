//! Functions about indexes: `hnsw_check`, `hnsw_index_info`.

use super::cache;
use crate::error::{error, Result};
use pg_rag_engine::hnsw::index::Index;
use pgrx::prelude::*;
use pgrx::{pg_sys, JsonB, PgRelation};
use std::ffi::CStr;

/// Opens an index of this access method that the caller may look into: one on a table that it may read. Works on a standby.
fn open_index(index: pg_sys::Oid) -> Result<PgRelation> {
    // SAFETY: raises an error if there is no such relation; the lock is kept until the value is dropped.
    let relation = unsafe { PgRelation::with_lock(index, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    // SAFETY: the relation is open; names come from the catalogue's caches.
    let (is_ours, may_read) = unsafe {
        let class = &*relation.rd_rel;
        let is_index = class.relkind as u8 == pg_sys::RELKIND_INDEX;
        let method = if is_index { pg_sys::get_am_name(class.relam) } else { std::ptr::null_mut() };
        let is_ours = !method.is_null() && CStr::from_ptr(method) == c"hnsw";
        let is_readable = || {
            let table = pg_sys::IndexGetRelation(index, false);
            let select = pg_sys::ACL_SELECT as pg_sys::AclMode;
            pg_sys::pg_class_aclcheck(table, pg_sys::GetUserId(), select) == pg_sys::AclResult::ACLCHECK_OK
        };
        (is_ours, is_ours && is_readable())
    };
    if !is_ours {
        let message = format!("\"{}\" is not an hnsw index", relation.name());
        return Err(error(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, message));
    }
    if !may_read {
        let message = format!("permission denied for index \"{}\"", relation.name());
        return Err(error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message));
    }
    Ok(relation)
}

/// Calls `work` with the engine's index.
fn with_index<R>(
    index: pg_sys::Oid,
    work: impl FnOnce(&mut Index<super::store::RelationStore>) -> std::result::Result<R, super::errors::IndexError>,
) -> Result<R> {
    let relation = open_index(index)?;
    // SAFETY: the relation is open until the end of this function.
    let result = unsafe { cache::open(relation.as_ptr()) }.and_then(|mut open| {
        let result = work(&mut open)?;
        cache::close(open);
        Ok(result)
    });
    result.map_err(|failure| failure.report(relation.name()))
}

/// What is wrong with an index: no row if nothing is.
#[pg_extern(sql = false)]
fn hnsw_check(index: pg_sys::Oid) -> Result<SetOfIterator<'static, String>> {
    let report = with_index(index, Index::check)?;
    let mut findings: Vec<String> = report.findings.into_iter().map(|finding| finding.0).collect();
    if report.further_findings > 0 {
        findings.push(format!("{} further findings", report.further_findings));
    }
    Ok(SetOfIterator::new(findings))
}

/// What an index is and holds, as `jsonb`.
#[pg_extern(sql = false)]
fn hnsw_index_info(index: pg_sys::Oid) -> Result<JsonB> {
    let (meta, report, instruction_set) =
        with_index(index, |open| Ok((open.meta()?, open.check()?, pg_rag_engine::code::instruction_set())))?;
    let share = |part: u32, of: u32| if of == 0 { 1.0 } else { f64::from(part) / f64::from(of) };
    let calibration: Vec<serde_json::Value> = meta
        .calibration
        .points()
        .iter()
        .map(|point| serde_json::json!({"ef_search": point.ef_search, "recall": point.recall}))
        .collect();
    Ok(JsonB(serde_json::json!({
        "type": format!("{:?}", meta.identity.element).to_lowercase(),
        "metric": match meta.identity.metric {
            pg_rag_engine::hnsw::page::Metric::InnerProduct => "ip".to_owned(),
            metric => format!("{metric:?}").to_lowercase(),
        },
        "code": format!("{:?}", meta.identity.code_kind).to_lowercase(),
        "code_bytes": meta.identity.code_length.max_bytes(),
        "dimensions": meta.identity.dimensions,
        "m": meta.identity.m,
        "ef_construction": meta.identity.ef_construction,
        "format_version": pg_rag_engine::hnsw::page::FORMAT_VERSION,
        "instruction_set": instruction_set,
        "rows": report.rows,
        "nodes": report.live_nodes,
        "dead_nodes": report.dead_nodes,
        "free_nodes": report.free_nodes,
        "unfinished_nodes": report.inserting_nodes,
        "dead_share": share(report.dead_nodes, report.live_nodes + report.dead_nodes),
        "reachable_share": share(report.reachable_nodes, report.live_nodes),
        "mean_neighbours": report.edges as f64 / f64::from((report.live_nodes + report.dead_nodes).max(1)),
        "nodes_by_level": report.levels,
        "vacuums": meta.vacuum_epoch,
        "calibration": calibration,
    })))
}
