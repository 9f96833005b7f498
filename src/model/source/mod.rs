//! Finding, hashing and inspecting the files of a model.
//!
//! A model is a folder (safetensors in the layout of sentence-transformers or transformers, or one GGUF file with what
//! belongs to it), or the path of a GGUF file. Registering a model records the SHA-256 of every file that has a part in its results
//! ([`inspect`]); loading checks them again ([`verify`], [`load_verified`]), so that a name always means the same vectors and answers.
//! The server calls both; the loaders use [`Generator`] and [`inside`].

mod generation;
pub mod gguf;
mod license;
mod links;
pub mod safetensors;

#[cfg(test)]
mod tests;

pub use generation::{gguf_file, Generator};
pub use license::of_card as license_of;

use crate::adapter::AdapterFiles;
use crate::encoder::config::{EncoderConfig, EncoderOptions, RerankerOptions, TextConfig};
use crate::encoder::reranker::{self, RerankerConfig};
use crate::encoder::TOKENIZER_FILE;
use crate::error::{ModelError, Result};
use crate::quantize::Watch;
use pg_rag_protocol::message::{ModelFile, ModelInfo, ModelKind, ModelRef};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// What the headers of the model at `path` say, and the hashes of its files.
///
/// Reads every file once, for the hashes, but loads nothing.
///
/// Errors: `Missing`, `Unreadable`, `Corrupt`, `Unsupported`; `InvalidArgument` when `path` is not a place where a
/// model of this kind can be.
pub fn inspect(kind: ModelKind, path: &Path) -> Result<ModelInfo> {
    let (base, names) = locate(kind, path)?;
    let mut info = match kind {
        ModelKind::Embed => inspect_encoder(&base)?,
        ModelKind::Rerank => inspect_reranker(&base)?,
        ModelKind::Generate => Generator::find(path)?.inspect()?,
    };
    info.license = info.license.or_else(|| license::of_card(&base));
    add_files(&mut info, &base, names)?;
    Ok(info)
}

/// Adds hashes and sizes of the files `names` in `dir`.
fn add_files(info: &mut ModelInfo, dir: &Path, names: Vec<String>) -> Result<()> {
    for name in names {
        let path = inside(dir, &name)?;
        let sha256 = hash(&path)?;
        let metadata = std::fs::metadata(&path).map_err(|error| ModelError::from_io(&path, error))?;
        info.files.push(ModelFile { name, sha256 });
        info.file_bytes.push(metadata.len());
    }
    Ok(())
}

/// Checks the options of a registration, a JSON object, for the model at `path`, and tells in `info` what they change.
///
/// Errors: `InvalidArgument` naming the option; those of reading the model's configuration.
pub fn apply_options(kind: ModelKind, path: &Path, options_json: &str, info: &mut ModelInfo) -> Result<()> {
    match kind {
        ModelKind::Embed => {
            let config = EncoderConfig::read(path, &EncoderOptions::from_json(options_json)?)?;
            info.dimensions = config.dims() as u32;
            Ok(())
        }
        ModelKind::Rerank => RerankerConfig::read(path, &RerankerOptions::from_json(options_json)?).map(drop),
        ModelKind::Generate => check_generate_options(options_json),
    }
}

/// Options of a generation model: what it is made from. They are names, which whoever registers a model has looked up.
fn check_generate_options(options_json: &str) -> Result<()> {
    if options_json.trim().is_empty() {
        return Ok(());
    }
    let options: HashMap<String, serde_json::Value> =
        serde_json::from_str(options_json).map_err(|error| ModelError::InvalidArgument(format!("options: {error}")))?;
    for (name, value) in &options {
        if !matches!(name.as_str(), "base" | "adapter" | "quantized_from") {
            return Err(ModelError::InvalidArgument(format!("option \"{name}\" of a generation model is not known")));
        }
        if !value.is_string() {
            return Err(ModelError::InvalidArgument(format!("option \"{name}\" must be a text, not {value}")));
        }
    }
    if options.contains_key("adapter") && !options.contains_key("base") {
        return Err(ModelError::InvalidArgument("an adapter needs the option \"base\"".to_owned()));
    }
    Ok(())
}

/// Like [`inspect`], for the adapter in the folder `path`; checks that it fits `base`.
///
/// Errors: as for [`inspect`], and those of an adapter that does not fit.
pub fn inspect_adapter(path: &Path, base: &ModelRef) -> Result<ModelInfo> {
    if base.kind != ModelKind::Generate || base.base.is_some() || base.remote.is_some() {
        let reason = format!("model \"{}\" cannot be the base of an adapter", base.name);
        return Err(ModelError::InvalidArgument(reason));
    }
    let (dir, names) = locate_adapter(path)?;
    crate::decoder::adapter_needs(Path::new(&base.path), &dir)?;
    let adapter = AdapterFiles::open(&dir)?;
    let base = inspect_decoder(Path::new(&base.path))?;
    let license = license::of_card(&dir);
    let parameters = base.parameters + adapter.parameters();
    let mut info = ModelInfo { parameters, size_bytes: adapter.size_bytes(), license, ..base };
    add_files(&mut info, &dir, names)?;
    Ok(info)
}

/// The folder of an adapter, and the names of its files.
fn locate_adapter(path: &Path) -> Result<(PathBuf, Vec<String>)> {
    if !path.is_absolute() {
        return Err(ModelError::InvalidArgument(format!("path \"{}\" of an adapter is not absolute", path.display())));
    }
    if !std::fs::metadata(path).map_err(|error| ModelError::from_io(path, error))?.is_dir() {
        return Err(ModelError::InvalidArgument(format!("adapter \"{}\" is not a folder", path.display())));
    }
    let names = AdapterFiles::file_names().to_vec();
    links::check(path, &names)?;
    Ok((path.to_owned(), names))
}

/// Checks that the files of a registered model are the ones that were registered.
///
/// Errors: `Missing`, `Unreadable`; `Changed` for a file with other contents, and for a file with a part in the results
/// that was not there at registration.
pub fn verify(model: &ModelRef) -> Result<()> {
    let (base, present) = match model.base {
        Some(_) => locate_adapter(Path::new(&model.path))?,
        None => locate(model.kind, Path::new(&model.path))?,
    };
    for file in &model.files {
        let path = inside(&base, &file.name)?;
        let found_sha256 = hash(&path)?;
        if found_sha256 != file.sha256 {
            return Err(ModelError::Changed { path, expected_sha256: Some(file.sha256.clone()), found_sha256 });
        }
    }
    if let Some(new) = present.iter().find(|name| !model.files.iter().any(|file| &file.name == *name)) {
        let path = inside(&base, new)?;
        let found_sha256 = hash(&path)?;
        return Err(ModelError::Changed { path, expected_sha256: None, found_sha256 });
    }
    Ok(())
}

/// What `load` makes of a registered model whose files are verified meanwhile; [`verify`]'s error comes first. `load` may
/// meet any file, and what it has made of a changed one is dropped.
pub fn load_verified<T>(model: &ModelRef, load: impl FnOnce() -> Result<T>) -> Result<T> {
    std::thread::scope(|scope| {
        let verified = scope.spawn(|| verify(model));
        let loaded = load();
        verified.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        loaded
    })
}

/// Path of the file `name` of the model in `dir`.
///
/// `name` comes from a registration or from a shard index, so it must stay inside the folder: only ordinary
/// components. Where symbolic links lead is checked for all files of a model at once ([`inspect`], [`verify`]).
pub fn inside(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if name.is_empty() || !path.components().all(|component| matches!(component, Component::Normal(_))) {
        return Err(ModelError::InvalidArgument(format!("\"{name}\" is not the name of a file in the model's folder")));
    }
    Ok(dir.join(path))
}

/// The folder that the names of a model's files are relative to; `path` is that of a model, which need not be there.
pub fn folder_of(path: &Path) -> PathBuf {
    let is_file = path.is_file() || path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    match is_file && !path.is_dir() {
        true => path.parent().unwrap_or(Path::new("/")).to_owned(),
        false => path.to_owned(),
    }
}

/// Lower-case hexadecimal SHA-256 of a file.
pub fn hash(path: &Path) -> Result<String> {
    hash_parts(path, &mut |_| Ok(()))
}

/// [`hash`], which adds the bytes that were read to `done` and stops with `Cancelled`.
pub fn hash_watched(path: &Path, done: &mut u64, total: u64, watch: &impl Watch) -> Result<String> {
    hash_parts(path, &mut |bytes| {
        *done = done.saturating_add(bytes);
        watch.progress(*done, total);
        match watch.is_cancelled() {
            true => Err(ModelError::Cancelled),
            false => Ok(()),
        }
    })
}

/// Tells `each` the bytes of each part.
fn hash_parts(path: &Path, each: &mut dyn FnMut(u64) -> Result<()>) -> Result<String> {
    let from_io = |error| ModelError::from_io(path, error);
    let mut file = File::open(path).map_err(from_io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                each(count as u64)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(from_io(error)),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The folder of the model at `path`, and the names of the files in it that have a part in its results. None of them is a
/// link to somewhere else, but for a GGUF file that `path` itself names.
fn locate(kind: ModelKind, path: &Path) -> Result<(PathBuf, Vec<String>)> {
    let (base, names) = locate_files(kind, path)?;
    let named = path.strip_prefix(&base).ok().and_then(Path::to_str).unwrap_or_default();
    let others: Vec<String> = names.iter().filter(|name| *name != named).cloned().collect();
    links::check(&base, &others)?;
    Ok((base, names))
}

fn locate_files(kind: ModelKind, path: &Path) -> Result<(PathBuf, Vec<String>)> {
    if !path.is_absolute() {
        return Err(ModelError::InvalidArgument(format!("path \"{}\" of a model is not absolute", path.display())));
    }
    let is_dir = std::fs::metadata(path).map_err(|error| ModelError::from_io(path, error))?.is_dir();
    match kind {
        ModelKind::Embed | ModelKind::Rerank if is_dir => {
            // Where the folder cannot be searched, files in it would only seem to be missing.
            std::fs::read_dir(path).map_err(|error| ModelError::from_io(path, error))?;
            let mut names = safetensors::Checkpoint::file_names(path)?;
            names.extend([TOKENIZER_FILE, "config.json"].map(str::to_owned));
            names.extend(EncoderConfig::companion_files(path)?);
            Ok((path.to_owned(), names))
        }
        ModelKind::Embed => {
            Err(ModelError::InvalidArgument(format!("embedding model \"{}\" is not a folder", path.display())))
        }
        ModelKind::Rerank => {
            Err(ModelError::InvalidArgument(format!("reranking model \"{}\" is not a folder", path.display())))
        }
        ModelKind::Generate => Generator::find(path)?.files(),
    }
}

fn inspect_encoder(dir: &Path) -> Result<ModelInfo> {
    let config = EncoderConfig::read(dir, &EncoderOptions::default())?;
    let checkpoint = safetensors::Checkpoint::open(dir)?;
    crate::encoder::check_files(dir, &config, &checkpoint)?;
    Ok(describe(&config.text, config.dims(), &checkpoint))
}

fn inspect_reranker(dir: &Path) -> Result<ModelInfo> {
    let config = RerankerConfig::read(dir, &RerankerOptions::default())?;
    let checkpoint = safetensors::Checkpoint::open(dir)?;
    reranker::check_files(dir, &config, &checkpoint)?;
    Ok(describe(&config.text, 0, &checkpoint))
}

fn describe(text: &TextConfig, dims: usize, checkpoint: &safetensors::Checkpoint) -> ModelInfo {
    ModelInfo {
        files: Vec::new(),
        file_bytes: Vec::new(),
        license: None,
        architecture: text.architecture.clone(),
        dimensions: dims as u32,
        max_tokens: text.max_tokens as u32,
        // Integer tensors are tables of positions, not parameters.
        parameters: checkpoint.tensors().filter(|(_, kind, _)| is_float(*kind)).map(|(.., elements)| elements).sum(),
        size_bytes: checkpoint.size_bytes(),
        quantization: most_bytes(
            checkpoint.tensors().map(|(_, kind, elements)| (format!("{kind:?}"), elements * kind.bitsize() as u64)),
        ),
    }
}

/// Bytes that the model at `path` takes in memory, by its headers: embedding models are held in single precision,
/// generation models as they lie in their files.
///
/// Errors: as for [`inspect`].
pub fn memory_bytes(kind: ModelKind, path: &Path) -> Result<u64> {
    locate(kind, path)?;
    match kind {
        ModelKind::Embed | ModelKind::Rerank => {
            let checkpoint = safetensors::Checkpoint::open(path)?;
            let floats: u64 = checkpoint.tensors().filter(|(_, kind, _)| is_float(*kind)).map(|(.., n)| n).sum();
            Ok(floats * size_of::<f32>() as u64)
        }
        ModelKind::Generate => Generator::find(path)?.memory_bytes(),
    }
}

fn is_float(kind: ::safetensors::Dtype) -> bool {
    use ::safetensors::Dtype::{BF16, F16, F32, F64};
    matches!(kind, F64 | F32 | F16 | BF16)
}

/// What the headers of a generation model say, without the hashes of its files.
pub(crate) fn inspect_decoder(path: &Path) -> Result<ModelInfo> {
    Generator::find(path)?.inspect()
}

/// The name with the largest sum of bytes; the empty string when there is none.
fn most_bytes(sizes: impl Iterator<Item = (String, u64)>) -> String {
    let mut totals: HashMap<String, u64> = HashMap::new();
    for (name, bytes) in sizes {
        let total = totals.entry(name).or_default();
        *total = total.saturating_add(bytes);
    }
    totals.into_iter().max_by_key(|(name, bytes)| (*bytes, name.clone())).map(|(name, _)| name).unwrap_or_default()
}
