//! Which files of a repository a model needs. Weights are safetensors or one GGUF file; pickles and programs are never
//! chosen, whatever the caller's patterns say.
//!
//! Two steps, as weights in several files are told by one of the small files: [`described_by`], then [`weights`].

use super::listing::{Listing, RemoteFile};
use super::names::matches;
use super::HubError;
use crate::error::{ModelError, Result};

/// Tells the files of weights that come in several.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// The model card, which tells the licence.
const CARD: &str = "README.md";

const SINGLE_FILE: &str = "model.safetensors";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Small files in the folder of a model that have a part in it.
const DESCRIPTIONS: [&str; 11] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    INDEX_FILE,
    CARD,
];

/// The tokenizer of those that have no `tokenizer.json`.
const OTHER_TOKENIZER: [&str; 2] = ["tokenizer.model", "added_tokens.json"];

/// Endings of files that are data for this runtime.
const ENDINGS: [&str; 6] = [".safetensors", ".gguf", ".json", ".jinja", ".model", ".md"];

/// Endings of weights that can run code.
const PICKLES: [&str; 6] = [".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"];

/// Largest file that is not weights.
const MOST_DESCRIPTION_BYTES: u64 = 64 << 20;

/// Most files of a model.
const MOST_FILES: usize = 1000;

/// Most names that an error lists.
const MOST_LISTED: usize = 40;

/// What the caller wants of a repository.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub repo: &'a str,
    /// Patterns of files; without any, what a model needs is chosen.
    pub patterns: &'a [String],
    /// An adapter, not a model of its own.
    pub adapter: bool,
}

fn is_gguf(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

fn is_weights(name: &str) -> bool {
    is_gguf(name) || name.ends_with(".safetensors")
}

fn ends_with_any(name: &str, endings: &[&str]) -> bool {
    let name = name.to_ascii_lowercase();
    endings.iter().any(|ending| name.ends_with(ending))
}

/// The folder of a module of sentence-transformers, such as `1_Pooling`, if `name` is a file in one.
fn in_module_folder(name: &str) -> Option<&str> {
    let (folder, file) = name.split_once('/')?;
    let (number, rest) = folder.split_once('_')?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !rest.is_empty() && !file.contains('/')).then_some(file)
}

/// Small files that describe the model.
///
/// Errors: `Choice` when several files could be the model, `InvalidArgument` when none is; `Unsupported` when there are
/// only pickles.
pub fn described_by(listing: &Listing, wanted: Wanted<'_>) -> Result<Vec<RemoteFile>> {
    let chosen = |file: &&RemoteFile| -> bool {
        let name = file.name.as_str();
        if !wanted.patterns.is_empty() {
            let asked_for = wanted.patterns.iter().any(|pattern| matches(pattern, name));
            return name == CARD || asked_for && ends_with_any(name, &ENDINGS) && !is_weights(name);
        }
        match (wanted.adapter, gguf_only(listing)) {
            (true, _) => matches!(name, ADAPTER_CONFIG | CARD),
            // Such a file describes itself, but for the tokenizer of some.
            (_, true) => matches!(name, "tokenizer.json" | CARD),
            _ if OTHER_TOKENIZER.contains(&name) => listing.file("tokenizer.json").is_none(),
            _ => DESCRIPTIONS.contains(&name) || in_module_folder(name) == Some("config.json"),
        }
    };
    let files: Vec<_> = listing.files.iter().filter(chosen).cloned().collect();
    match files.iter().find(|file| file.bytes > MOST_DESCRIPTION_BYTES) {
        Some(file) => {
            let (bytes, limit_bytes) = (file.bytes, MOST_DESCRIPTION_BYTES);
            Err(HubError::TooLarge { bytes, limit_bytes }.into_error())
        }
        None => Ok(files),
    }
}

/// The weights. `shards` are the files that [`INDEX_FILE`] names, if it was among what describes the model.
///
/// Errors: as for [`described_by`].
pub fn weights(listing: &Listing, wanted: Wanted<'_>, shards: Option<&[String]>) -> Result<Vec<RemoteFile>> {
    let all = listing.files.iter();
    let files: Vec<RemoteFile> = if !wanted.patterns.is_empty() {
        let asked_for = |name: &str| wanted.patterns.iter().any(|pattern| matches(pattern, name));
        let files: Vec<_> = all.filter(|file| is_weights(&file.name) && asked_for(&file.name)).cloned().collect();
        match files.is_empty() {
            true => return Err(nothing(listing, wanted, asked_for)),
            false => files,
        }
    } else if wanted.adapter {
        all.filter(|file| file.name == ADAPTER_WEIGHTS).cloned().collect()
    } else if gguf_only(listing) {
        all.filter(|file| is_gguf(&file.name)).cloned().collect()
    } else {
        let whole = listing.file(SINGLE_FILE).is_some();
        let in_root = |name: &str| match (whole, shards) {
            (true, _) => name == SINGLE_FILE,
            (false, Some(shards)) => shards.iter().any(|shard| shard == name),
            (false, None) => false,
        };
        let module = |name: &str| in_module_folder(name) == Some(SINGLE_FILE);
        all.filter(|file| in_root(&file.name) || module(&file.name)).cloned().collect()
    };
    let ggufs: Vec<String> = files.iter().map(|file| file.name.clone()).filter(|name| is_gguf(name)).collect();
    if ggufs.len() > 1 {
        let files = ggufs.into_iter().take(MOST_LISTED).collect();
        return Err(HubError::Choice { repo: wanted.repo.to_owned(), files }.into_error());
    }
    if !files.iter().any(|file| in_module_folder(&file.name).is_none()) {
        return Err(nothing(listing, wanted, |name| !name.contains('/')));
    }
    match files.len() <= MOST_FILES {
        true => Ok(files),
        false => Err(ModelError::InvalidArgument(format!("model has more than {MOST_FILES} files"))),
    }
}

/// Whether GGUF is the only kind of weights that can be used.
fn gguf_only(listing: &Listing) -> bool {
    let names = || listing.files.iter().map(|file| file.name.as_str());
    names().any(is_gguf) && !names().any(|name| name == SINGLE_FILE || name == INDEX_FILE)
}

/// Why nothing was chosen of the files that `considered` tells.
fn nothing(listing: &Listing, wanted: Wanted<'_>, considered: impl Fn(&str) -> bool) -> ModelError {
    let mut names = listing.files.iter().map(|file| file.name.as_str()).filter(|name| considered(name));
    let repo = wanted.repo;
    match names.any(|name| ends_with_any(name, &PICKLES)) {
        true => ModelError::Unsupported("weights in pickle files, which can run code".into()),
        false if wanted.patterns.is_empty() => {
            ModelError::InvalidArgument(format!("repository \"{repo}\" has no weights in safetensors or GGUF"))
        }
        false => ModelError::InvalidArgument(format!(
            "repository \"{repo}\" has no weights in safetensors or GGUF whose name matches \"{}\"",
            wanted.patterns.join("\", \"")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::ContentHash;
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let file =
            |name: &&str| RemoteFile { name: (*name).to_owned(), bytes: 1, hash: ContentHash::GitBlob("0".repeat(40)) };
        Listing { commit: "0".repeat(40), license: None, files: names.iter().map(file).collect() }
    }

    fn choose(names: &[&str], patterns: &[&str], adapter: bool, shards: Option<&[&str]>) -> Result<Vec<String>> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let wanted = Wanted { repo: "o/n", patterns: &patterns, adapter };
        let listing = listing(names);
        let shards: Option<Vec<String>> = shards.map(|shards| shards.iter().map(|&name| name.to_owned()).collect());
        let mut files = described_by(&listing, wanted)?;
        files.extend(weights(&listing, wanted, shards.as_deref())?);
        let mut names: Vec<_> = files.into_iter().map(|file| file.name).collect();
        names.sort();
        Ok(names)
    }

    const MINILM: [&str; 13] = [
        "README.md",
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "rust_model.ot",
        "modules.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "2_Dense/pytorch_model.bin",
        "onnx/model.onnx",
        "tokenizer.json",
        "train_script.py",
    ];

    #[test]
    fn a_folder_of_sentence_transformers_is_chosen_without_pickles_and_programs() {
        let expected = [
            "1_Pooling/config.json",
            "2_Dense/config.json",
            "2_Dense/model.safetensors",
            "README.md",
            "config.json",
            "model.safetensors",
            "modules.json",
            "tokenizer.json",
        ];
        assert_eq!(choose(&MINILM, &[], false, None).unwrap(), expected);
        let all = choose(&MINILM, &["*"], false, None).unwrap();
        assert_eq!(all, expected);
    }

    #[test]
    fn weights_in_several_files_are_those_of_the_index() {
        let names = ["config.json", INDEX_FILE, "a-1.safetensors", "a-2.safetensors", "consolidated.safetensors"];
        let tokenizer = choose(&["config.json", "model.safetensors", "tokenizer.model"], &[], false, None).unwrap();
        assert_eq!(tokenizer, ["config.json", "model.safetensors", "tokenizer.model"]);
        let chosen = choose(&names, &[], false, Some(&["a-1.safetensors", "a-2.safetensors"])).unwrap();
        assert_eq!(chosen, ["a-1.safetensors", "a-2.safetensors", "config.json", INDEX_FILE]);
    }

    #[test]
    fn of_several_gguf_files_one_must_be_named() {
        let names = ["README.md", "m.Q4_K_M.gguf", "m.Q8_0.gguf", "config.json"];
        match choose(&names, &[], false, None).unwrap_err() {
            ModelError::Hub(error) => match *error {
                HubError::Choice { files, .. } => assert_eq!(files, ["m.Q4_K_M.gguf", "m.Q8_0.gguf"]),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
        assert_eq!(choose(&names, &["*Q8_0.gguf"], false, None).unwrap(), ["README.md", "m.Q8_0.gguf"]);
        assert_eq!(choose(&names[..2], &[], false, None).unwrap(), ["README.md", "m.Q4_K_M.gguf"]);
        assert!(matches!(choose(&names, &["*Q2*"], false, None), Err(ModelError::InvalidArgument(_))));
    }

    #[test]
    fn pickles_are_refused() {
        for patterns in [&[][..], &["*"], &["pytorch_model.bin"]] {
            let names = ["config.json", "pytorch_model.bin", "model.py"];
            assert!(matches!(choose(&names, patterns, false, None), Err(ModelError::Unsupported(_))), "{patterns:?}");
        }
        assert!(matches!(choose(&["config.json"], &[], false, None), Err(ModelError::InvalidArgument(_))));
    }

    #[test]
    fn an_adapter_is_two_files() {
        let names = ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "training_args.bin"];
        assert_eq!(choose(&names, &[], true, None).unwrap(), ["adapter_config.json", "adapter_model.safetensors"]);
    }
}
