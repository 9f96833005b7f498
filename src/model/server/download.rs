//! `rag_download_model`, `rag_check_model`, `rag_stored_models` and `rag_delete_stored_model` in the server.

use super::failure::failure_of;
use super::reply::Ticket;
use super::work::Line;
use super::Server;
use crate::error::{ModelError, Result};
use crate::hub::{self, Download};
use crate::source;
use pg_rag_protocol::message::{DownloadOrder, FileCheck, ModelRef, Response, StoredModel, Waiter};
use std::path::{Path, PathBuf};

/// Downloads a model into the server's folder.
pub fn download(server: &Server, ticket: Ticket, order: DownloadOrder, name: String, waiter: Waiter) {
    server.workshop.run(Line::Download, ticket, waiter, name, move |work| {
        let dir = &work.workshop.dir;
        let dir = std::path::absolute(dir).map_err(|error| ModelError::from_io(dir, error))?;
        let downloaded = hub::download(&request(order), &dir, work)?;
        Ok(Response::Downloaded {
            kind: downloaded.kind,
            path: downloaded.path,
            commit: downloaded.commit,
            info: downloaded.info,
        })
    });
}

fn request(order: DownloadOrder) -> Download {
    Download {
        endpoint: order.endpoint,
        token_file: order.token_file.map(PathBuf::from),
        repo: order.repo,
        revision: order.revision,
        patterns: order.patterns,
        kind: order.kind,
        options_json: order.options_json,
        base: order.base.map(|base| *base),
        max_bytes: order.max_bytes,
    }
}

/// What is in the server's folder.
pub fn stored(server: &Server) -> Result<Vec<StoredModel>> {
    hub::stored::list(&server.workshop.dir)
}

/// Removes the stored model at `path`, while nothing is being downloaded.
pub fn delete(server: &Server, ticket: Ticket, path: String, waiter: Waiter) {
    server.workshop.run(Line::Download, ticket, waiter, path.clone(), move |work| {
        work.phase("delete");
        hub::stored::remove(&work.workshop.dir, &path).map(Response::Count)
    });
}

/// Hashes every file of `model`.
pub fn check(server: &Server, ticket: Ticket, model: ModelRef, waiter: Waiter) {
    server.workshop.run(Line::Compute, ticket, waiter, model.name.clone(), move |work| {
        work.phase("verify");
        let folder = source::folder_of(Path::new(&model.path));
        let paths: Vec<Result<PathBuf>> = model.files.iter().map(|file| source::inside(&folder, &file.name)).collect();
        let bytes =
            |path: &Result<PathBuf>| path.as_ref().ok().and_then(|path| path.metadata().ok()).map_or(0, |m| m.len());
        let total = paths.iter().map(bytes).fold(0, u64::saturating_add);
        let mut done = 0;
        let mut checks = Vec::with_capacity(model.files.len());
        for (file, path) in model.files.iter().zip(paths) {
            let hash = path.and_then(|path| source::hash_watched(&path, &mut done, total, work));
            checks.push(match hash {
                Ok(sha256) => FileCheck { name: file.name.clone(), found_sha256: Some(sha256), problem: None },
                Err(ModelError::Cancelled) => return Err(ModelError::Cancelled),
                Err(error) => {
                    let problem = Some(failure_of(&error).message);
                    FileCheck { name: file.name.clone(), found_sha256: None, problem }
                }
            });
        }
        Ok(Response::Files(checks))
    });
}
