//! Quantising, comparing and adapting real models through the server.

use super::testing::*;
use crate::quantize::file_tests::{data, quantised, Folder};
use crate::source;
use pg_rag_protocol::message::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

const WAITER: Waiter = Waiter { pid: 42, database: 7 };

fn reference(name: &str, path: &Path, files: Vec<ModelFile>) -> ModelRef {
    let path = path.to_str().unwrap().to_owned();
    ModelRef {
        name: name.into(),
        kind: ModelKind::Generate,
        path,
        files,
        options_json: "{}".into(),
        base: None,
        remote: None,
    }
}

/// The small model of random weights, as a file of single precision.
fn tiny(folder: &Folder, name: &str) -> ModelRef {
    let path = quantised(&data("tiny_llama"), "f32", folder);
    reference(name, &path, source::inspect(ModelKind::Generate, &path).unwrap().files)
}

fn quantize(model: &ModelRef, kind: &str) -> Request {
    Request::Quantize { model: model.clone(), name: "small".into(), kind: kind.into(), waiter: WAITER }
}

fn generate(model: &ModelRef) -> Request {
    let Request::Generate { messages, params, stream, caller, .. } = generate_request(8, false) else { unreachable!() };
    Request::Generate { model: model.clone(), messages, params, stream, caller }
}

fn text(response: Response) -> String {
    match response {
        Response::Generated { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

fn failure(response: Response) -> Failure {
    match response {
        Response::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_is_quantised_compared_and_used() {
    let (server, folder) = (Running::start_real("quantize"), Folder::new());
    let mut client = server.client();
    let original = tiny(&folder, "tiny");
    let (path, info) = match client.ask(&quantize(&original, "q8_0")) {
        Response::Quantized { path, info } => (PathBuf::from(path), info),
        other => panic!("{other:?}"),
    };
    assert_eq!(path.parent(), Some(server.folder.join("models").as_path()));
    assert_eq!((info.architecture.as_str(), info.quantization.as_str(), info.max_tokens), ("llama", "Q8_0", 512));
    assert_eq!(info, source::inspect(ModelKind::Generate, &path).unwrap());
    let model = reference("small", &path, info.files);
    text(client.ask(&generate(&model)));

    let report = |model: &ModelRef, original: &ModelRef, text: Option<&str>| Request::QuantizationReport {
        model: model.clone(),
        original: original.clone(),
        text: text.map(str::to_owned),
        waiter: WAITER,
    };
    match client.ask(&report(&model, &original, Some("A partial index covers only the rows that a condition admits.")))
    {
        Response::QuantizationReport(QuantizationReport { tensors, perplexity: Some(change) }) => {
            assert!(tensors.iter().any(|tensor| tensor.kind == "Q8_0" && tensor.rmse > 0.0 && tensor.cosine > 0.999));
            assert!(change.tokens > 10 && (change.quantised / change.original - 1.0).abs() < 0.1, "{change:?}");
        }
        other => panic!("{other:?}"),
    }
    match client.ask(&report(&model, &model, None)) {
        Response::QuantizationReport(QuantizationReport { tensors, perplexity: None }) => {
            assert!(tensors.iter().all(|tensor| tensor.largest_error == 0.0));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.ask(&Request::ModelProgress), Response::ModelProgress(Vec::new()));
    server.retire();
}

#[test]
fn a_folder_of_safetensors_is_quantised_and_adapted() {
    let server = Running::start_real("folder");
    let mut client = server.client();
    let path = std::fs::canonicalize(data("tiny_llama")).unwrap();
    let original = reference("tiny", &path, source::inspect(ModelKind::Generate, &path).unwrap().files);
    let (path, info) = match client.ask(&quantize(&original, "f32")) {
        Response::Quantized { path, info } => (PathBuf::from(path), info),
        other => panic!("{other:?}"),
    };
    // The same numbers in a wider type.
    let model = reference("small", &path, info.files);
    assert_eq!(text(client.ask(&generate(&model))), text(client.ask(&generate(&original))));
    let report = Request::QuantizationReport {
        model,
        original: original.clone(),
        text: Some("Tables, rows, columns, queries, settings.".into()),
        waiter: WAITER,
    };
    match client.ask(&report) {
        Response::QuantizationReport(QuantizationReport { perplexity: Some(change), .. }) => {
            assert!((change.quantised / change.original - 1.0).abs() < 0.01, "{change:?}");
        }
        other => panic!("{other:?}"),
    }
    let path = std::fs::canonicalize(data("tiny_llama_lora")).unwrap();
    let files = source::inspect_adapter(&path, &original).unwrap().files;
    let adapter = ModelRef { base: Some(Box::new(original.clone())), ..reference("adapted", &path, files) };
    assert_ne!(text(client.ask(&generate(&adapter))), text(client.ask(&generate(&original))));
    server.retire();
}

#[test]
fn what_a_model_needs_is_what_the_server_counts() {
    let (server, folder) = (Running::start_real("needs"), Folder::new());
    let mut client = server.client();
    let model = tiny(&folder, "tiny");
    let mut ask = |context_tokens: Option<u32>, kind: Option<&str>| {
        let kind = kind.map(str::to_owned);
        match client.ask(&Request::ModelMemory { model: model.clone(), context_tokens, kind }) {
            Response::ModelMemory(memory) => memory,
            other => panic!("{other:?}"),
        }
    };
    let (whole, half) = (ask(None, None), ask(Some(256), None));
    assert_eq!((whole.context_tokens, half.context_tokens, whole.kind.as_str()), (512, 256, "F32"));
    assert_eq!(whole.kv_cache_bytes, 2 * half.kv_cache_bytes);
    assert_eq!(whole.total_bytes - half.total_bytes, half.kv_cache_bytes);
    let known = |kind: &str| kind == "cpu" || kind == "cuda";
    assert!(whole.devices.iter().all(|(device, fits)| *fits && known(&device.kind)) && whole.fits_limit.is_none());
    let small = ask(None, Some("q4_0"));
    assert!(small.weights_bytes * 5 < whole.weights_bytes && small.kind == "q4_0", "{small:?}");

    assert_eq!(client.ask(&Request::Load { model: model.clone() }), Response::Done);
    assert_eq!(client.status().memory_bytes, whole.total_bytes - whole.kv_cache_bytes);
    server.retire();
}

#[test]
fn adapters_are_registered_for_a_base_and_share_it() {
    let (server, folder) = (Running::start_real("adapters"), Folder::new());
    let mut client = server.client();
    let base = tiny(&folder, "tiny");
    let mut adapter = |name: &str, base: &ModelRef| {
        let path = std::fs::canonicalize(data(name)).unwrap();
        let options_json = format!(r#"{{"base": "{}"}}"#, base.name);
        let base = Some(Box::new(base.clone()));
        match client.ask(&Request::Inspect {
            kind: ModelKind::Generate,
            path: path.to_str().unwrap().into(),
            options_json,
            base: base.clone(),
        }) {
            Response::Inspected(info) => Ok(ModelRef { base, ..reference(name, &path, info.files) }),
            other => Err(failure(other)),
        }
    };
    let (one, two) = (adapter("tiny_llama_lora", &base).unwrap(), adapter("tiny_llama_rslora", &base).unwrap());
    assert_eq!(one.files.len(), 2);
    // The adapter of an adapter, and that of something else, are refused.
    assert_eq!(adapter("tiny_llama_lora", &one).unwrap_err().kind, FailureKind::InvalidArgument);
    assert_eq!(adapter("tiny_llama", &base).unwrap_err().kind, FailureKind::ModelMissing);

    let texts: Vec<String> = [&base, &one, &two].map(|model| text(client.ask(&generate(model)))).to_vec();
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    let models = client.status().models;
    assert_eq!(models.len(), 3);
    let bytes = |name: &str| models.iter().find(|model| model.name == name).unwrap().resident_bytes;
    assert!(bytes("tiny_llama_lora") < bytes("tiny"));

    let mut changed = one.clone();
    changed.files[1].sha256 = "00".repeat(32);
    assert_eq!(failure(client.ask(&generate(&changed))).kind, FailureKind::ModelChanged);
    server.retire();
}

#[test]
fn work_whose_client_goes_away_is_given_up_and_leaves_nothing() {
    let server = Running::start_real("cancel");
    let mut watcher = server.client();
    let path = crate::decoder::tests::model_path();
    let model = reference("SmolLM2", &path, source::inspect(ModelKind::Generate, &path).unwrap().files);
    let mut first = server.client();
    first.send(&quantize(&model, "q2_k"));
    let mut second = server.client();
    second.send(&quantize(&model, "q3_k"));
    let mut wait_until = |wanted: &dyn Fn(&[ModelProgress]) -> bool| {
        for _ in 0..6000 {
            match watcher.ask(&Request::ModelProgress) {
                Response::ModelProgress(works) if wanted(&works) => return,
                Response::ModelProgress(_) => std::thread::sleep(Duration::from_millis(5)),
                other => panic!("{other:?}"),
            }
        }
        panic!("the work does not get there");
    };
    let begun = |works: &[ModelProgress]| works.iter().any(|work| work.phase == "quantize" && work.done > 0);
    wait_until(&|works| works.len() == 2 && begun(works) && works.iter().any(|work| work.phase == "wait"));
    // One that waits for its turn, and one that has begun.
    drop(second);
    drop(first);
    wait_until(&<[ModelProgress]>::is_empty);
    assert_eq!(std::fs::read_dir(server.folder.join("models")).unwrap().count(), 0);
    server.retire();
}

#[test]
fn what_cannot_be_quantised_is_told() {
    let (server, folder) = (Running::start_real("refused"), Folder::new());
    let mut client = server.client();
    let model = tiny(&folder, "tiny");
    let told = failure(client.ask(&quantize(&model, "q9")));
    assert_eq!(told.kind, FailureKind::InvalidArgument);
    assert!(told.message.contains("q4_k_m"), "{told:?}");
    let told = failure(client.ask(&quantize(&ModelRef { kind: ModelKind::Embed, ..model.clone() }, "q8_0")));
    assert_eq!(told.kind, FailureKind::ModelUnsupported);
    let mut changed = model.clone();
    changed.files[0].sha256 = "00".repeat(32);
    assert_eq!(failure(client.ask(&quantize(&changed, "q8_0"))).kind, FailureKind::ModelChanged);
    // Where the folder for models should be is a file.
    std::fs::write(server.folder.join("models"), "").unwrap();
    assert_eq!(failure(client.ask(&quantize(&model, "q8_0"))).kind, FailureKind::ModelUnwritable);
    std::fs::remove_file(server.folder.join("models")).unwrap();
    server.retire();
}
