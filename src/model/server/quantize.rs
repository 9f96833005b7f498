//! `rag_quantize_model`, `rag_quantization_report` and `rag_model_memory` in the server.

use super::failure::failure_of;
use super::reply::Ticket;
use super::work::Line;
use super::{devices, Server};
use crate::compute::Pool;
use crate::decoder::{Decoder, Likelihood};
use crate::error::{ModelError, Result};
use crate::quantize::{self, Mix, Watch};
use crate::source;
use pg_rag_protocol::message::{
    Failure, ModelFile, ModelKind, ModelMemory, ModelRef, PerplexityChange, QuantizationReport, Response, Waiter,
};
use std::path::Path;

/// What work on weights is counted with: a few pieces of some million weights.
const WORK_BYTES: u64 = 32 << 20;

/// Writes `model` in the types of `kind` into the server's folder.
pub fn quantize(server: &Server, ticket: Ticket, model: ModelRef, name: String, kind: &str, waiter: Waiter) {
    let mix: Mix = match check_kind(&model).and_then(|()| kind.parse()) {
        Ok(mix) => mix,
        Err(error) => return ticket.fail(failure_of(&error)),
    };
    let registry = server.registry.clone();
    server.workshop.run(Line::Compute, ticket, waiter, name.clone(), move |work| {
        let _memory = registry.take_memory(WORK_BYTES, || format!("quantising model \"{}\"", model.name))?;
        work.phase("verify");
        source::verify(&model)?;
        work.phase("quantize");
        let workshop = &work.workshop;
        let source = quantize::open(Path::new(&model.path))?;
        let dir = std::path::absolute(&workshop.dir).map_err(|error| ModelError::from_io(&workshop.dir, error))?;
        let written = quantize::write(&source, mix, &dir, &name, workshop.threads, work)?;
        let mut info = source::inspect_decoder(&written.path)?;
        let file_name = written.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        info.files.push(ModelFile { name: file_name, sha256: written.sha256 });
        info.file_bytes.push(written.bytes);
        Ok(Response::Quantized { path: written.path.to_string_lossy().into_owned(), info })
    });
}

/// Compares `model` with the `original` that it was made from.
pub fn report(
    server: &Server,
    ticket: Ticket,
    model: ModelRef,
    original: ModelRef,
    text: Option<String>,
    waiter: Waiter,
) {
    if let Err(error) = check_kind(&model).and_then(|()| check_kind(&original)) {
        return ticket.fail(failure_of(&error));
    }
    let registry = server.registry.clone();
    server.workshop.run(Line::Compute, ticket, waiter, model.name.clone(), move |work| {
        let what = || format!("comparing model \"{}\"", model.name);
        let mut memory = vec![registry.take_memory(WORK_BYTES, what)?];
        work.phase("verify");
        source::verify(&original)?;
        source::verify(&model)?;
        work.phase("compare");
        let open = |model: &ModelRef| quantize::open(Path::new(&model.path));
        let tensors = quantize::report::compare(&open(&original)?, &open(&model)?, work)?;
        let Some(text) = text else {
            return Ok(Response::QuantizationReport(QuantizationReport { tensors, perplexity: None }));
        };
        // A pool of its own: the other belongs to the thread that answers requests.
        let pool = Pool::new(work.workshop.threads)?;
        let mut likelihood = |model: &ModelRef, phase: &str| -> Result<Likelihood> {
            memory.push(registry.take_memory(registry.needed_bytes(model)?, what)?);
            work.phase(phase);
            let decoder = Decoder::load(Path::new(&model.path))?;
            let progress = |done, total| work.progress(done, total);
            let likelihood = decoder.likelihood(&text, &pool, &progress, &|| work.is_cancelled())?;
            memory.pop();
            Ok(likelihood)
        };
        let before = likelihood(&original, "read text with the original")?;
        let after = likelihood(&model, "read text")?;
        let perplexity =
            PerplexityChange { tokens: before.tokens, original: before.perplexity(), quantised: after.perplexity() };
        Ok(Response::QuantizationReport(QuantizationReport { tensors, perplexity: Some(perplexity) }))
    });
}

fn check_kind(model: &ModelRef) -> Result<()> {
    match model.kind {
        ModelKind::Generate => Ok(()),
        ModelKind::Embed | ModelKind::Rerank => Err(ModelError::Unsupported(format!(
            "embedding model \"{}\" cannot be written as GGUF, but the option \"dtype\": \"int8\" makes it smaller in memory",
            model.name
        ))),
    }
}

/// What `model` would be counted with, by headers.
pub fn memory(
    server: &Server,
    model: &ModelRef,
    context_tokens: Option<u32>,
    kind: Option<&str>,
) -> std::result::Result<ModelMemory, Failure> {
    let needs = || {
        let mix = kind.map(str::parse::<Mix>).transpose()?;
        if mix.is_some() {
            check_kind(model)?;
        }
        server.registry.needs(model, context_tokens.map(|tokens| tokens as usize), mix)
    };
    let needs = needs().map_err(|error| failure_of(&error))?;
    let total_bytes = needs.loaded_bytes().saturating_add(needs.kv_cache);
    let devices = devices::devices().into_iter().map(|device| {
        let fits = total_bytes <= device.memory_bytes;
        (device, fits)
    });
    Ok(ModelMemory {
        kind: needs.kind,
        context_tokens: u32::try_from(needs.context_tokens).unwrap_or(u32::MAX),
        weights_bytes: needs.weights,
        vocabulary_bytes: needs.vocabulary,
        kv_cache_bytes: needs.kv_cache,
        prefix_cache_bytes: needs.prefix_cache,
        activations_bytes: needs.activations,
        total_bytes,
        devices: devices.collect(),
        fits_limit: server.budget.limit_bytes().map(|limit| total_bytes <= limit),
    })
}
