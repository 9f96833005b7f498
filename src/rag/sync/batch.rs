//! Some rows of an index on their way: read in a transaction, cut and sent to the model in none, stored in another one.

use crate::error::error;
use crate::functions::embed::Embedding;
use crate::models::catalog as models;
use crate::pg::transaction::Fault;
use crate::pg::{object_lock, owner, transaction};
use crate::rag::refresh::{self, Document, Prepared, Statements};
use crate::rag::sync::jobs::Job;
use crate::rag::sync::queue::{self, Claim};
use crate::rag::sync::state;
use crate::rag::sync::worker::Outcome;
use pgrx::PgSqlErrorCode;
use std::collections::{HashMap, HashSet};

/// A batch whose texts the model has. Dropping it takes them back.
pub struct Batch<'j> {
    statements: Statements<'j>,
    /// Rows whose chunks are replaced.
    stale: Vec<Document>,
    /// Keys of rows that have no text any more.
    gone: Vec<String>,
    /// What the stale rows become.
    prepared: Vec<Prepared>,
    /// How many summaries are still to be written of each row.
    left: HashMap<String, i32>,
    embedding: Embedding,
}

impl<'j> Batch<'j> {
    /// Reads and cuts the rows, and sends their texts to the model.
    pub fn begin(job: &'j Job, claims: &[Claim]) -> Outcome<Self> {
        let keys: Vec<String> = claims.iter().map(|claim| claim.key.clone()).collect();
        let (statements, model, read, known, known_of_current) = transaction::run(|| {
            owner::as_restricted_user(job.owner, || {
                let model = models::embedding(Some(&job.index.model))?;
                let statements = Statements::new(&job.index)?;
                // Summaries may be missing of a row although its text is there.
                let read = statements.read(&keys, job.index.summaries.is_some())?;
                let known = statements.known(&read.stale)?;
                let known_of_current = statements.own_summaries(&read.current)?;
                Ok((statements, model, read, known, known_of_current))
            })
        })?;
        let (prepared, left, embedding) = transaction::catch(|| {
            let prepared = refresh::prepare(&job.index, &model, &read.stale, &known)?;
            let embedding = refresh::start_embedding(&model, prepared.iter().flat_map(|document| &document.chunks))?;
            let of_current = refresh::missing_summaries(&job.index, &read.current, &known_of_current)?;
            let of_current =
                read.current.iter().zip(of_current).map(|(row, pages)| (row.key.clone(), pages.len() as i32));
            let of_stale =
                read.stale.iter().zip(&prepared).map(|(row, prepared)| (row.key.clone(), prepared.missing()));
            let left = of_stale.chain(of_current).collect();
            Ok((prepared, left, embedding))
        })?;
        Ok(Batch { statements, stale: read.stale, gone: read.gone, prepared, left, embedding })
    }

    /// Waits for the vectors and stores the chunks of those rows that have not changed since they were claimed.
    pub fn finish(self, job: &Job, claims: &[Claim]) -> Outcome<()> {
        let Batch { statements, stale, gone, mut prepared, left, embedding } = self;
        let vectors = transaction::catch(|| embedding.finish())?;
        refresh::take_vectors(prepared.iter_mut().flat_map(|document| &mut document.chunks), vectors);
        transaction::run(|| {
            if !state::lock(job.index.view_oid, object_lock::Mode::Exclusive, false) {
                return Err(error(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, "somebody refreshes the index"));
            }
            let kept: HashSet<String> = queue::finish(job.index.view_oid, claims, &left)?.into_iter().collect();
            let gone: Vec<String> = gone.into_iter().filter(|key| kept.contains(key)).collect();
            let (documents, chunks): (Vec<_>, Vec<_>) =
                stale.into_iter().zip(prepared).filter(|(document, _)| kept.contains(&document.key)).unzip();
            owner::as_restricted_user(job.owner, || {
                if !gone.is_empty() {
                    statements.delete(gone)?;
                }
                if !documents.is_empty() {
                    statements.store(&documents, chunks)?;
                }
                Ok(())
            })
        })
    }
}

/// Whether an error says that no row of the index can be worked on now.
pub fn concerns_index(report: &Fault) -> bool {
    use PgSqlErrorCode as Code;
    matches!(
        report.code,
        Code::ERRCODE_LOCK_NOT_AVAILABLE
            | Code::ERRCODE_UNDEFINED_FILE
            | Code::ERRCODE_IO_ERROR
            | Code::ERRCODE_DATA_CORRUPTED
            | Code::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
            | Code::ERRCODE_OUT_OF_MEMORY
            | Code::ERRCODE_DISK_FULL
            | Code::ERRCODE_CANNOT_CONNECT_NOW
            | Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            | Code::ERRCODE_UNDEFINED_OBJECT
            | Code::ERRCODE_UNDEFINED_TABLE
            | Code::ERRCODE_UNDEFINED_COLUMN
            | Code::ERRCODE_INSUFFICIENT_PRIVILEGE
            | Code::ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION
            | Code::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION
            | Code::ERRCODE_CONFIG_FILE_ERROR
            | Code::ERRCODE_QUERY_CANCELED
            | Code::ERRCODE_ADMIN_SHUTDOWN
    )
}
