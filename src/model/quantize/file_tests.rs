//! Whole models through the quantiser and back: the file is read by the runtime's own reader, and its logits are compared
//! with those of the original.

use super::block_tests::normal;
use super::convert::Watch;
use super::*;
use crate::compute::Pool;
use crate::decoder::Decoder;
use crate::tokenizer::sentencepiece_file;
use pg_rag_protocol::message::ModelKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder that is removed in the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static FOLDERS: AtomicU64 = AtomicU64::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pg_rag_quantize_{}_{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Cancels after some questions.
struct Patience(AtomicU64);

impl Watch for Patience {
    fn progress(&self, done: u64, total: u64) {
        assert!(done <= total);
    }

    fn is_cancelled(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) == 0
    }
}

fn endless() -> Patience {
    Patience(AtomicU64::new(u64::MAX))
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
}

/// Writes the model at `source` in the types of `kind`.
pub fn quantised(source: &Path, kind: &str, folder: &Folder) -> PathBuf {
    let model = open(source).unwrap();
    let written = write(&model, kind.parse().unwrap(), &folder.0, "a model/ü", 2, &endless()).unwrap();
    assert_eq!(written.sha256, crate::source::hash(&written.path).unwrap());
    assert_eq!(written.bytes, std::fs::metadata(&written.path).unwrap().len());
    written.path
}

#[derive(serde::Deserialize)]
pub struct Reference {
    pub ids: Vec<u32>,
    pub positions: Vec<usize>,
    pub base: Vec<Vec<f32>>,
    pub lora: Vec<Vec<f32>>,
    pub rslora: Vec<Vec<f32>>,
    texts: Vec<Text>,
}

#[derive(serde::Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

/// What transformers and peft say about the small model.
pub fn reference() -> Reference {
    serde_json::from_slice(&std::fs::read(data("tiny_llama_reference.json")).unwrap()).unwrap()
}

/// How far logits are from those that are wanted, relative to the spread of these.
pub fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let squares: f32 = want.iter().map(|x| x * x).sum();
    let errors: f32 = got.iter().zip(want).map(|(got, want)| (got - want) * (got - want)).sum();
    (errors / squares).sqrt()
}

fn worst(decoder: &Decoder, reference: &Reference) -> f32 {
    let rows = decoder.all_logits(&Pool::new(2).unwrap(), &reference.ids);
    let at = reference.positions.iter().zip(&reference.base);
    at.map(|(&at, want)| difference(&rows[at], want)).fold(0.0, f32::max)
}

#[test]
fn a_folder_of_safetensors_gives_the_logits_of_transformers() {
    let (folder, reference) = (Folder::new(), reference());
    // Keys and values are kept in half precision, so nothing is nearer than that; weights of random numbers make the most of
    // every error.
    let most = [
        ("f32", 0.005),
        ("bf16", 0.005),
        ("f16", 0.01),
        ("q8_0", 0.12),
        ("q6_k", 0.12),
        ("q5_1", 0.35),
        ("q4_1", 0.75),
        ("q4_0", 0.9),
    ];
    let measured = most.map(|(kind, most)| {
        let decoder = Decoder::load(&quantised(&data("tiny_llama"), kind, &folder)).unwrap();
        (kind, worst(&decoder, &reference), most)
    });
    assert!(measured.iter().all(|(_, worst, most)| worst < most), "{measured:?}");
}

#[test]
fn the_tokenizer_and_the_template_come_along() {
    let (folder, reference) = (Folder::new(), reference());
    let decoder = Decoder::load(&quantised(&data("tiny_llama"), "q8_0", &folder)).unwrap();
    for Text { text, ids } in &reference.texts {
        assert_eq!(&decoder.tokenizer().encode_ids(text, false).unwrap(), ids, "{text:?}");
    }
    let message = |content: &str| pg_rag_protocol::message::ChatMessage {
        role: pg_rag_protocol::message::Role::User,
        content: content.into(),
    };
    let prompt = decoder.prompt_tokens(&[message("rows")]).unwrap();
    let text = decoder.tokenizer().decode(&prompt, false).unwrap();
    assert_eq!(text, "<|im_start|>user\nrows<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn a_folder_with_the_vocabulary_of_sentencepiece_works_as_folder_and_as_file() {
    let (source, folder) = (Folder::new(), Folder::new());
    for name in ["config.json", "generation_config.json", "chat_template.jinja", "model.safetensors"] {
        std::fs::copy(data("tiny_llama").join(name), source.0.join(name)).unwrap();
    }
    std::fs::write(source.0.join("tokenizer.model"), sentencepiece_file::tests::beginning(290)).unwrap();
    let config = r#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}}"#;
    std::fs::write(source.0.join("tokenizer_config.json"), config).unwrap();
    let info = crate::source::inspect(ModelKind::Generate, &source.0).unwrap();
    let names: Vec<&str> = info.files.iter().map(|file| file.name.as_str()).collect();
    assert!(names.contains(&"tokenizer.model") && !names.contains(&"tokenizer.json"), "{names:?}");

    let file = quantised(&source.0, "f32", &folder);
    let (from_folder, from_file) = (Decoder::load(&source.0).unwrap(), Decoder::load(&file).unwrap());
    for text in ["A vacuum removes dead tuples.", " two  spaces", "数据库 </s>", ""] {
        let ids = from_folder.tokenizer().encode_ids(text, false).unwrap();
        assert!(ids.len() >= text.split(' ').count() / 2 && !ids.contains(&2), "{ids:?}");
        assert_eq!(from_file.tokenizer().encode_ids(text, false).unwrap(), ids);
        let decoded = from_folder.tokenizer().decode(&ids, true).unwrap();
        assert_eq!(from_file.tokenizer().decode(&ids, true).unwrap(), decoded);
    }
}

#[test]
fn a_gguf_file_in_other_types_still_knows_what_it_knew() {
    let folder = Folder::new();
    let models = std::env::var_os("PG_RAG_MODELS").unwrap_or_else(|| "/usr/local/share/pg_rag/models".into());
    let source = PathBuf::from(models).join("SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
    let (pool, original) = (Pool::new(2).unwrap(), Decoder::load(&source).unwrap());
    let ids = original.tokenizer().encode_ids("The capital of France is", false).unwrap();
    let want = original.all_logits(&pool, &ids);
    let path = quantised(&source, "q8_0", &folder);
    let decoder = Decoder::load(&path).unwrap();
    let got = decoder.all_logits(&pool, &ids);
    for (got, want) in got.iter().zip(&want) {
        assert!(difference(got, want) < 0.12, "{}", difference(got, want));
    }
    let tokens = |decoder: &Decoder| decoder.tokenizer().encode_ids("Hello 123 é", false).unwrap();
    assert_eq!(tokens(&decoder), tokens(&original));
    // What has its type already is taken over as it is: the same bytes again.
    let again = Folder::new();
    let second = quantised(&path, "q8_0", &again);
    assert_eq!(
        (second.file_name(), std::fs::read(&second).unwrap()),
        (path.file_name(), std::fs::read(&path).unwrap())
    );
}

#[test]
fn names_become_safe_and_contents_decide_about_the_rest() {
    let folder = Folder::new();
    let first = quantised(&data("tiny_llama"), "q8_0", &folder);
    let name = first.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("a%20model%2F%C3%BC-") && name.ends_with(".gguf"), "{name}");
    assert_eq!(quantised(&data("tiny_llama"), "q8_0", &folder), first);
    assert_ne!(quantised(&data("tiny_llama"), "q4_0", &folder), first);
    assert_eq!(folder.names().len(), 2);
    let model = open(&data("tiny_llama")).unwrap();
    for name in ["", &"x".repeat(500)] {
        let error = write(&model, "f16".parse().unwrap(), &folder.0, name, 1, &endless());
        assert!(matches!(error, Err(ModelError::InvalidArgument(_))), "{error:?}");
    }
}

#[test]
fn nothing_is_left_of_an_attempt_that_is_cancelled_or_fails() {
    let folder = Folder::new();
    let model = open(&data("tiny_llama")).unwrap();
    for questions in [0, 1, 7] {
        let patience = Patience(AtomicU64::new(questions));
        let outcome = write(&model, "q8_0".parse().unwrap(), &folder.0, "m", 2, &patience);
        assert!(matches!(outcome, Err(ModelError::Cancelled)), "{outcome:?}");
        assert!(folder.names().is_empty());
    }
    // A file in place of the folder, as a full disk would be: an error of the system.
    let file = folder.0.join("file");
    std::fs::write(&file, "").unwrap();
    let outcome = write(&model, "q8_0".parse().unwrap(), &file, "m", 2, &endless());
    assert!(matches!(outcome, Err(ModelError::Unwritable { .. })), "{outcome:?}");

    let left = folder.0.join("m-1-0.unfinished");
    std::fs::write(&left, "what a killed process leaves").unwrap();
    remove_leftovers(&folder.0);
    assert_eq!(folder.names(), ["file"]);
}

/// Weights in memory.
struct Memory(Vec<tensors::Tensor>, Vec<f32>);

impl TensorSource for Memory {
    fn tensors(&self) -> &[tensors::Tensor] {
        &self.0
    }

    fn read_rows(&self, _tensor: usize, first: u64, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self.1[first as usize * 32..][..out.len()]);
        Ok(())
    }
}

#[test]
fn weights_that_cannot_be_represented_are_errors() {
    let folder = Folder::new();
    let attempt = |odd: f32, kind: &str| {
        let mut numbers = normal(64, 5);
        numbers[40] = odd;
        let tensor =
            tensors::Tensor { name: "blk.0.attn_q.weight".into(), dimensions: vec![32, 2], kind: TensorType::F32 };
        let model = Model {
            metadata: Metadata::default(),
            shape: Shape { layers: 1, group: 1, has_output: false },
            tensors: Box::new(Memory(vec![tensor], numbers)),
        };
        write(&model, kind.parse().unwrap(), &folder.0, "m", 1, &endless())
    };
    assert!(matches!(attempt(f32::NAN, "f32"), Err(ModelError::InvalidInput(_))));
    assert!(matches!(attempt(f32::INFINITY, "q4_0"), Err(ModelError::InvalidInput(_))));
    assert!(matches!(attempt(1e6, "q4_0"), Err(ModelError::Unsupported(_))));
    assert!(folder.names().is_empty());
    assert!(attempt(1e6, "f32").is_ok());
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let folder = Folder::new();
    for file in std::fs::read_dir(data("tiny_llama")).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, folder.0.join(file.file_name().unwrap())).unwrap();
    }
    let edit = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(data("tiny_llama").join(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        std::fs::write(folder.0.join(name), text.replace(from, to)).unwrap();
        let error = open(&folder.0).err().map(|error| error.to_string()).unwrap_or_default();
        std::fs::write(folder.0.join(name), &text).unwrap();
        error
    };
    let error = edit("config.json", "\"model_type\": \"llama\"", "\"model_type\": \"falcon\"");
    assert!(error.contains("\"falcon\"") && error.contains("mistral"), "{error}");
    let error = edit("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    assert!(error.contains("model.layers.1."), "{error}");
    let error = edit("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    assert!(error.contains("model.layers.2.") && error.contains("missing"), "{error}");
    let error = edit("config.json", "\"hidden_size\": 64", "\"hidden_size\": 96");
    assert!(error.contains("shape"), "{error}");
    let error = edit("config.json", "\"hidden_size\": 64", "\"hidden_size\": -1");
    assert!(error.contains("hidden_size"), "{error}");
    let error = edit("tokenizer.json", "\"individual_digits\": true", "\"individual_digits\": false");
    assert!(error.contains("way to cut text"), "{error}");
    assert_eq!(open(&folder.0).err().map(|error| error.to_string()), None);
}

#[test]
fn a_report_tells_the_errors_of_every_tensor() {
    let folder = Folder::new();
    let original = open(&data("tiny_llama")).unwrap();
    let quantised = open(&quantised(&data("tiny_llama"), "q4_0", &folder)).unwrap();
    let reports = report::compare(&original, &quantised, &endless()).unwrap();
    assert_eq!(reports.len(), original.tensors.tensors().len());
    for report in &reports {
        let exact = report.name.contains("norm");
        let expected = if exact {
            "F32"
        } else if report.name == "output.weight" {
            "Q8_0"
        } else {
            "Q4_0"
        };
        assert_eq!(report.kind, expected, "{}", report.name);
        assert_eq!((report.rmse == 0.0, report.largest_error == 0.0), (exact, exact), "{report:?}");
        assert!(
            report.rmse <= report.largest_error && report.cosine > 0.99 && report.cosine < 1.0 + 1e-6,
            "{report:?}"
        );
        let (block, block_bytes) = if exact {
            (1, 4)
        } else if expected == "Q8_0" {
            (32, 34)
        } else {
            (32, 18)
        };
        assert_eq!(report.bytes, report.elements / block * block_bytes);
    }
    let same = report::compare(&original, &original, &endless()).unwrap();
    assert!(same.iter().all(|report| report.largest_error == 0.0 && (report.cosine - 1.0).abs() < 1e-6));
    let patience = Patience(AtomicU64::new(2));
    assert!(matches!(report::compare(&original, &quantised, &patience), Err(ModelError::Cancelled)));
}
