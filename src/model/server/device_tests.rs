//! Real models on a device, through the server: a GPU where there is one, else candle's processor device.

use super::testing::*;
use crate::accelerator::testing::accelerator;
use crate::quantize::file_tests::data;
use crate::source;
use pg_rag_protocol::message::*;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    data(name).canonicalize().unwrap()
}

fn model(kind: ModelKind, name: &str) -> ModelRef {
    let path = path(name);
    let files = source::inspect(kind, &path).unwrap().files;
    ModelRef { kind, path: path.to_str().unwrap().into(), files, ..embed_model(name) }
}

/// The small model with its adapter.
fn adapted() -> ModelRef {
    let (base, path) = (model(ModelKind::Generate, "tiny_llama"), path("tiny_llama_lora"));
    let files = source::inspect_adapter(&path, &base).unwrap().files;
    let (name, path) = ("adapted".into(), path.to_str().unwrap().into());
    ModelRef { name, path, files, base: Some(Box::new(base.clone())), ..base }
}

fn requests() -> Vec<Request> {
    let texts = ["a partial index", "rows", "Which rows does a partial index cover, and which not?"].map(str::to_owned);
    let (purpose, lane, caller) = (Purpose::Passage, Lane::Bulk, ANYBODY);
    let generate = |model: ModelRef| {
        let Request::Generate { messages, params, stream, .. } = generate_request(8, false) else { unreachable!() };
        Request::Generate { model, messages, params, stream, caller }
    };
    vec![
        Request::Embed {
            model: model(ModelKind::Embed, "encoder_families/mpnet"),
            texts: texts.to_vec(),
            purpose,
            lane,
            caller,
        },
        Request::EmbedTokens {
            model: model(ModelKind::Embed, "encoder_families/modernbert"),
            text: texts[2].clone(),
            caller,
        },
        Request::Rerank {
            model: model(ModelKind::Rerank, "encoder_families/bert_pair"),
            query: texts[0].clone(),
            passages: texts.to_vec(),
            lane,
            caller,
        },
        generate(model(ModelKind::Generate, "tiny_llama")),
        generate(adapted()),
    ]
}

/// Numbers and text of an answer.
fn parts(response: Response) -> (Vec<f32>, String) {
    match response {
        Response::Embeddings { values, .. } | Response::TokenEmbeddings { values, .. } => (values, String::new()),
        Response::Scores { values, .. } => (values, String::new()),
        Response::Generated { text, .. } => (Vec::new(), text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn models_on_a_device_answer_as_on_the_processor() {
    let accelerator = Some(accelerator());
    let device = Running::start_disk("device", accelerator);
    let processor = Running::start_real("processor");
    let (mut on_device, mut on_processor) = (device.client(), processor.client());
    let mut texts = Vec::new();
    for request in requests() {
        let (got, want) = (parts(on_device.ask(&request)), parts(on_processor.ask(&request)));
        assert_eq!((got.0.len(), &got.1), (want.0.len(), &want.1));
        let largest = want.0.iter().fold(1.0_f32, |largest, number| largest.max(number.abs()));
        let off = got.0.iter().zip(&want.0).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
        assert!(off < 1e-4 * largest, "off by {off} of {largest}");
        texts.push(got.1);
    }
    assert_ne!(texts[3], texts[4], "the adapter says what its base says");

    // Beginnings of prompts are kept on the processor only.
    let needs = |client: &mut Client| {
        let model = model(ModelKind::Generate, "tiny_llama");
        match client.ask(&Request::ModelMemory { model, context_tokens: None, kind: None }) {
            Response::ModelMemory(memory) => memory.prefix_cache_bytes,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((needs(&mut on_device), needs(&mut on_processor) > 0), (0, true));
    device.retire();
    processor.retire();
}
