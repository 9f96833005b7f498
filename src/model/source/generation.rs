//! Files of generation models: a GGUF file, or a folder with safetensors and what belongs to them.

use super::safetensors::{Checkpoint, INDEX_FILE, SINGLE_FILE};
use super::{gguf, inside, most_bytes, TOKENIZER_FILE};
use crate::decoder::{check_architecture, describe_folder};
use crate::error::{ModelError, Result};
use crate::tokenizer::folder_files;
use pg_rag_protocol::message::ModelInfo;
use std::path::{Path, PathBuf};

/// Files of a folder that a model may do without, and that have a part in its answers if they are there.
const COMPANIONS: [&str; 4] =
    ["generation_config.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json"];

/// What the path of a generation model means.
#[derive(Debug, PartialEq, Eq)]
pub enum Generator {
    Gguf(PathBuf),
    Folder(PathBuf),
}

impl Generator {
    /// A file is GGUF; a folder is the only GGUF file in it or, without one, safetensors.
    ///
    /// Errors: `Missing`, `Unreadable`; `InvalidArgument` when the folder has several GGUF files; `Unsupported` for
    /// weights in pickle files only.
    pub fn find(path: &Path) -> Result<Self> {
        match gguf_file(path) {
            Ok(file) => Ok(Generator::Gguf(file)),
            Err(ModelError::Missing(_)) if path.is_dir() => {
                if path.join(SINGLE_FILE).exists() || path.join(INDEX_FILE).exists() {
                    return Ok(Generator::Folder(path.to_owned()));
                }
                match ["pytorch_model.bin", "pytorch_model.bin.index.json"].iter().any(|name| path.join(name).exists())
                {
                    true => Err(ModelError::Unsupported("weights in pickle files, which can run code".into())),
                    false => Err(ModelError::Missing(path.join("*.gguf"))),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The folder of the model, and the names of the files in it that have a part in its answers.
    pub(super) fn files(&self) -> Result<(PathBuf, Vec<String>)> {
        match self {
            Generator::Gguf(file) => {
                let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
                    ModelError::InvalidArgument(format!("file name of \"{}\" is not UTF-8", file.display()))
                })?;
                let base = file.parent().unwrap_or(Path::new("/"));
                let mut names = vec![name.to_owned()];
                names.extend(base.join(TOKENIZER_FILE).exists().then(|| TOKENIZER_FILE.to_owned()));
                Ok((base.to_owned(), names))
            }
            Generator::Folder(dir) => {
                let mut names = Checkpoint::file_names(dir)?;
                for name in &names {
                    inside(dir, name)?;
                }
                names.extend(folder_files(dir).into_iter().chain(["config.json"]).map(str::to_owned));
                names.extend(COMPANIONS.iter().filter(|name| dir.join(name).exists()).map(|name| (*name).to_owned()));
                Ok((dir.clone(), names))
            }
        }
    }

    /// What the headers say; without the hashes.
    pub(super) fn inspect(&self) -> Result<ModelInfo> {
        match self {
            Generator::Gguf(file) => inspect_gguf(file),
            Generator::Folder(dir) => {
                let (architecture, max_tokens) = describe_folder(dir)?;
                let checkpoint = Checkpoint::open(dir)?;
                let sizes = |(_, kind, elements)| (kind, elements, bytes_of(kind, elements));
                let sizes: Vec<_> = checkpoint.tensors().map(sizes).collect();
                let floats = sizes.iter().filter(|(kind, ..)| super::is_float(*kind));
                Ok(ModelInfo {
                    files: Vec::new(),
                    file_bytes: Vec::new(),
                    license: None,
                    architecture,
                    dimensions: 0,
                    max_tokens,
                    parameters: floats.map(|(_, elements, _)| elements).sum(),
                    size_bytes: checkpoint.size_bytes(),
                    quantization: most_bytes(sizes.iter().map(|(kind, _, bytes)| (format!("{kind:?}"), *bytes))),
                })
            }
        }
    }

    /// Bytes of the weights, which stay as they lie in the files.
    pub(super) fn memory_bytes(&self) -> Result<u64> {
        match self {
            Generator::Gguf(file) => Ok(gguf::Header::read(file)?.tensors.iter().map(|tensor| tensor.bytes).sum()),
            Generator::Folder(dir) => {
                Ok(Checkpoint::open(dir)?.tensors().map(|(_, kind, elements)| bytes_of(kind, elements)).sum())
            }
        }
    }
}

fn bytes_of(kind: ::safetensors::Dtype, elements: u64) -> u64 {
    elements.saturating_mul(kind.bitsize() as u64).div_ceil(8)
}

/// The GGUF file that `path` means: the file itself, or the only one in the folder.
///
/// Errors: `Missing`, `Unreadable`; `InvalidArgument` listing the files when the folder has several.
pub fn gguf_file(path: &Path) -> Result<PathBuf> {
    let from_io = |error| ModelError::from_io(path, error);
    if !std::fs::metadata(path).map_err(from_io)?.is_dir() {
        return Ok(path.to_owned());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(from_io)? {
        let entry = entry.map_err(from_io)?.path();
        if entry.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            found.push(entry);
        }
    }
    found.sort();
    match found.len() {
        0 => Err(ModelError::Missing(path.join("*.gguf"))),
        1 => Ok(found.remove(0)),
        _ => {
            let names: Vec<_> = found.iter().filter_map(|file| Some(file.file_name()?.to_string_lossy())).collect();
            let message = format!(
                "folder \"{}\" has {} GGUF files, name one of them: {}",
                path.display(),
                names.len(),
                names.join(", ")
            );
            Err(ModelError::InvalidArgument(message))
        }
    }
}

fn inspect_gguf(path: &Path) -> Result<ModelInfo> {
    let header = gguf::Header::read(path)?;
    let architecture = header.text("general.architecture")?.to_owned();
    check_architecture(&architecture)?;
    let context = header.unsigned(&format!("{architecture}.context_length"))?;
    Ok(ModelInfo {
        files: Vec::new(),
        file_bytes: Vec::new(),
        license: header.text("general.license").ok().and_then(super::license::sound),
        dimensions: 0,
        max_tokens: u32::try_from(context).unwrap_or(u32::MAX),
        parameters: header.tensors.iter().map(|tensor| tensor.elements).sum(),
        size_bytes: header.file_bytes,
        quantization: most_bytes(header.tensors.iter().map(|tensor| (tensor.element_type.to_owned(), tensor.bytes))),
        architecture,
    })
}
