//! What must not change an answer on a device, and what must leave a sequence as it was: the company in a pass, positions
//! that are forgotten, guesses, passes that nobody waits for, adapters.

use super::super::family_tests::{fixtures, unpacked, Folder};
use super::super::tests::{finish, greedy, model_path, some_ids};
use super::super::{Generation, GenerationOptions, Step};
use super::tests::{cache, distance, load, network, run};
use super::*;
use crate::compute::Pool;
use crate::decoder::Decoder;
use crate::quantize::file_tests::{data, difference, quantised, reference};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Products of more rows add in another order.
const ROUNDING: f32 = 2e-3;

fn families() -> Vec<(String, Folder)> {
    let names = ["llama", "gemma3", "phi3_long", "qwen3"].map(str::to_owned);
    names.map(|name| (name.clone(), Folder::gguf(&unpacked(&format!("{name}.gguf.gz"))))).into()
}

#[test]
fn sequences_in_one_pass_get_what_they_get_alone() {
    let ids = fixtures().ids;
    for (name, folder) in families() {
        let model = load(&folder.0);
        let slices: [(&[u32], usize); 3] = [(&ids[..20], 3), (&ids[5..6], 1), (&ids[9..14], 0)];
        let before = [&ids[..0], &ids[..5], &ids[..9]];
        let mut caches = before.map(|before| {
            let mut cache = cache(&model, 40);
            if !before.is_empty() {
                run(&model, &mut cache, before);
            }
            cache
        });
        let mut logits = Vec::new();
        let mut runs: Vec<Run> = caches
            .iter_mut()
            .zip(&slices)
            .map(|(cache, (tokens, wanted))| Run { cache, tokens, wanted: *wanted })
            .collect();
        assert!(network(&model).pass(&mut runs, &mut logits, &|| false).unwrap());
        let mut rows = logits.chunks_exact(model.vocab_size());
        for (before, (tokens, wanted)) in before.iter().zip(slices) {
            let mut alone = cache(&model, 40);
            let all = run(&model, &mut alone, &[before, tokens].concat());
            for want in &all[all.len() - wanted..] {
                assert!(distance(rows.next().unwrap(), want) < ROUNDING, "{name}");
            }
        }
        assert!(rows.next().is_none());
        // What the pass has left in the caches serves the next one.
        let next = run(&model, &mut caches[2], &ids[14..15]);
        let mut alone = cache(&model, 40);
        let want = run(&model, &mut alone, &ids[..15]);
        assert!(distance(&next[0], &want[14]) < ROUNDING, "{name}");
    }
}

#[test]
fn forgotten_tokens_leave_no_trace() {
    let ids = fixtures().ids;
    for (name, folder) in families() {
        let model = load(&folder.0);
        let mut cache = cache(&model, 40);
        run(&model, &mut cache, &ids[..20]);
        let mut wrong = ids[20..25].to_vec();
        wrong.reverse();
        run(&model, &mut cache, &wrong);
        cache.rollback(20);
        let got = run(&model, &mut cache, &ids[20..30]);
        let mut fresh = super::tests::cache(&model, 40);
        let want = run(&model, &mut fresh, &ids[..30]);
        for (got, want) in got.iter().zip(&want[20..]) {
            assert!(distance(got, want) < ROUNDING, "{name}");
        }
    }
}

#[test]
fn an_abandoned_pass_leaves_the_sequence_as_it_was() {
    let (_, folder) = families().remove(0);
    let (model, ids) = (load(&folder.0), fixtures().ids);
    let mut cache = cache(&model, 40);
    run(&model, &mut cache, &ids[..10]);
    for patience in [0, 1] {
        let asked = AtomicUsize::new(0);
        let abandoned = || asked.fetch_add(1, Ordering::Relaxed) >= patience;
        let mut logits = vec![7.0];
        let part = Run { cache: &mut cache, tokens: &ids[10..20], wanted: 1 };
        assert!(!network(&model).pass(&mut [part], &mut logits, &abandoned).unwrap());
        assert_eq!((logits, cache.len(), asked.into_inner()), (vec![7.0], 10, patience + 1));
    }
    let got = run(&model, &mut cache, &ids[10..20]);
    let mut fresh = super::tests::cache(&model, 40);
    assert!(distance(&got[9], &run(&model, &mut fresh, &ids[..20])[19]) < ROUNDING);
}

#[test]
fn a_cache_that_is_full_fails_all_of_a_pass_and_changes_nothing() {
    let (_, folder) = families().remove(0);
    let (model, ids) = (load(&folder.0), fixtures().ids);
    let (mut full, mut roomy) = (cache(&model, 4), cache(&model, 40));
    let runs = &mut [
        Run { cache: &mut roomy, tokens: &ids[..5], wanted: 1 },
        Run { cache: &mut full, tokens: &ids[..5], wanted: 1 },
    ];
    let outcome = network(&model).pass(runs, &mut Vec::new(), &|| false);
    assert!(matches!(outcome, Err(crate::ModelError::Internal(_))), "{outcome:?}");
    assert_eq!((full.len(), roomy.len()), (0, 0));
}

/// The text of a greedy answer, and its passes behind the prompt.
fn answer(model: &Arc<Decoder>, ids: &[u32], speculation: bool) -> (String, usize) {
    let options = GenerationOptions { speculation, ..GenerationOptions::default() };
    let mut generation = Generation::with_options(Arc::clone(model), ids.to_vec(), greedy(12), options).unwrap();
    let (pool, mut passes) = (Pool::new(1).unwrap(), 0);
    while !matches!(generation.step(&pool, &|| false).unwrap(), Step::Finished(_)) {
        passes += usize::from(!generation.is_prefilling());
    }
    (generation.text().to_owned(), passes)
}

#[test]
fn guesses_and_company_do_not_change_an_answer() {
    // The real model goes on with what repeats, so there is something to guess; little of it, as candle is slow here.
    let model = Arc::new(load(&model_path()));
    let ids = some_ids(40);
    let (plain, passes) = answer(&model, &ids, false);
    let (guessed, fewer) = answer(&model, &ids, true);
    assert_eq!(guessed, plain);
    assert!(fewer < passes, "{fewer} passes with guesses, {passes} without");

    let start = |ids: &[u32]| Generation::new(Arc::clone(&model), ids.to_vec(), greedy(12)).unwrap();
    let (mut one, mut two) = (start(&ids), start(&ids[..15]));
    let (pool, mut finished) = (Pool::new(1).unwrap(), 0);
    while finished < 2 {
        let steps = Generation::step_together(&mut [&mut one, &mut two], &pool, &|| false);
        finished = steps.iter().filter(|step| matches!(step, Ok(Step::Finished(_)))).count();
    }
    assert_eq!(one.text(), plain);
    assert_eq!(two.text(), answer(&model, &ids[..15], false).0);
    assert_eq!((one.cached_tokens(), model.prefix_cache_bytes()), (0, 0));
}

#[test]
fn an_adapter_gives_what_the_merged_reference_gives() {
    let (folder, reference) = (crate::quantize::file_tests::Folder::new(), reference());
    for (kind, limit) in [("folder", 0.03), ("f32", 0.005), ("q8_0", 0.12)] {
        let base = match kind {
            // Its rows lie in another order.
            "folder" => load(&data("tiny_llama")),
            kind => load(&quantised(&data("tiny_llama"), kind, &folder)),
        };
        for (name, wanted) in [("tiny_llama_lora", &reference.lora), ("tiny_llama_rslora", &reference.rslora)] {
            let adapted = base.with_adapter(&data(name)).unwrap();
            let worst = |model: &Decoder| {
                let rows = run(model, &mut cache(model, reference.ids.len()), &reference.ids);
                let pairs = reference.positions.iter().zip(wanted);
                pairs.map(|(&at, want)| difference(&rows[at], want)).fold(0.0, f32::max)
            };
            let (with, without) = (worst(&adapted), worst(&base));
            assert!(with < limit && without > 0.3, "{kind}, {name}: off by {with}, and {without} without it");
        }
    }
}

#[test]
fn an_answer_is_that_of_the_processor() {
    let folder = Folder::gguf(&unpacked("llama.gguf.gz"));
    let ids = fixtures().ids;
    let texts = [load(&folder.0), Decoder::load(&folder.0).unwrap()].map(|model| {
        let options = GenerationOptions { prefix_cache: false, speculation: false };
        let generation = Generation::with_options(Arc::new(model), ids.clone(), greedy(20), options).unwrap();
        finish(generation, &Pool::new(1).unwrap()).0
    });
    assert_eq!(texts[0], texts[1]);
}
