//! What must not change an answer: guesses, the store of prompt beginnings, the company in a pass.

use super::tests::{finish, greedy, model, some_ids, user};
use super::*;
use crate::compute::Pool;
use pg_rag_protocol::message::{FinishReason, GenerateParams};
use std::sync::Arc;

const PLAIN: GenerationOptions = GenerationOptions { prefix_cache: false, speculation: false };

fn run(model: &Arc<Decoder>, ids: &[u32], params: &GenerateParams, options: GenerationOptions) -> (String, Generation) {
    let generation = Generation::with_options(Arc::clone(model), ids.to_vec(), params.clone(), options).unwrap();
    let (text, _, generation) = finish(generation, &Pool::new(2).unwrap());
    (text, generation)
}

/// A prompt whose answer repeats parts of it.
fn copying_prompt() -> Vec<u32> {
    let text = "Repeat this text: A vacuum removes dead tuples, and autovacuum does so in the background. Indexes of \
                type hnsw find the nearest vectors. The planner chooses an index when it is cheaper than a scan.";
    model().prompt_tokens(&user(text)).unwrap()
}

#[test]
fn guesses_do_not_change_the_answer() {
    let model = model();
    for (ids, penalty) in [(copying_prompt(), 1.0), (copying_prompt(), 1.2), (some_ids(150), 1.0), (some_ids(40), 1.0)]
    {
        for max_tokens in [1, 2, 5, 48] {
            let params = GenerateParams { repeat_penalty: penalty, ..greedy(max_tokens) };
            let (want, plain) = run(&model, &ids, &params, PLAIN);
            let (got, guessing) = run(&model, &ids, &params, GenerationOptions { speculation: true, ..PLAIN });
            assert_eq!((&got, guessing.usage().completion_tokens), (&want, plain.usage().completion_tokens));
        }
    }
}

#[test]
fn guesses_need_fewer_passes_where_the_answer_repeats_the_prompt() {
    let (model, pool) = (model(), Pool::new(2).unwrap());
    let options = GenerationOptions { speculation: true, ..PLAIN };
    let mut generation = Generation::with_options(model, some_ids(150), greedy(48), options).unwrap();
    let mut passes = 0;
    while !matches!(generation.step(&pool, &|| false).unwrap(), Step::Finished(_)) {
        passes += usize::from(!generation.is_prefilling());
    }
    assert_eq!(generation.usage().completion_tokens, 48);
    assert!(passes < 30, "{passes} passes for 48 tokens");
}

#[test]
fn a_known_beginning_does_not_change_the_answer() {
    let model = Arc::new(Decoder::load(&tests::model_path()).unwrap());
    let cached = GenerationOptions { prefix_cache: true, ..PLAIN };
    let (first, second) = (some_ids(200), [&some_ids(170)[..], &copying_prompt()].concat());
    let (want, plain) = run(&model, &first, &greedy(20), PLAIN);
    assert_eq!((plain.cached_tokens(), model.prefix_cache_bytes()), (0, 0));
    let (got, new) = run(&model, &first, &greedy(20), cached);
    assert_eq!((&got, new.cached_tokens()), (&want, 0));
    assert_eq!(model.prefix_cache_bytes(), model.sequence_bytes(192));
    let (got, again) = run(&model, &first, &greedy(20), cached);
    assert_eq!((&got, again.cached_tokens()), (&want, 192));
    assert_eq!(again.usage().prompt_tokens, 200);

    let (want, _) = run(&model, &second, &greedy(20), PLAIN);
    let (got, other) = run(&model, &second, &greedy(20), cached);
    assert_eq!((&got, other.cached_tokens()), (&want, 160));
    // The last token of a prompt is always run.
    assert_eq!(run(&model, &first[..192], &greedy(1), cached).1.cached_tokens(), 176);
    model.set_prefix_cache_bytes(0);
    assert_eq!(run(&model, &first, &greedy(1), cached).1.cached_tokens(), 0);
}

#[test]
fn generations_that_advance_together_give_what_each_gives_alone() {
    let (model, pool) = (model(), Pool::new(2).unwrap());
    let random = GenerateParams { temperature: 1.0, seed: 3, ..greedy(25) };
    let cases = [
        (some_ids(100), greedy(20), GenerationOptions { speculation: true, ..PLAIN }),
        (copying_prompt(), greedy(30), PLAIN),
        (some_ids(7), random, PLAIN),
        (some_ids(170), greedy(3), PLAIN),
    ];
    let want: Vec<String> = cases.iter().map(|(ids, params, options)| run(&model, ids, params, *options).0).collect();
    let mut generations: Vec<Generation> = cases
        .into_iter()
        .map(|(ids, params, options)| Generation::with_options(Arc::clone(&model), ids, params, options).unwrap())
        .collect();
    let mut texts = vec![String::new(); want.len()];
    let mut finished = vec![false; want.len()];
    let mut round = 0;
    while finished.contains(&false) {
        // Now and then the pass is abandoned, which changes nothing.
        round += 1;
        let mut together: Vec<&mut Generation> = generations.iter_mut().collect();
        let steps = Generation::step_together(&mut together, &pool, &|| round % 5 == 4);
        assert_eq!(steps.len(), want.len());
        for (index, step) in steps.into_iter().enumerate() {
            match step.unwrap() {
                Step::Token(text) => texts[index].push_str(&text),
                Step::Finished(_) => finished[index] = true,
                Step::Prefilling { .. } => {}
                Step::Abandoned => assert_eq!(round % 5, 4),
            }
        }
    }
    assert_eq!(texts, want);
}

#[test]
fn generations_of_different_models_do_not_mix() {
    let (model, pool) = (model(), Pool::new(2).unwrap());
    let other = Arc::new(Decoder::load(&tests::model_path()).unwrap());
    let mut first = Generation::with_options(model, some_ids(5), greedy(2), PLAIN).unwrap();
    let mut second = Generation::with_options(other, some_ids(5), greedy(2), PLAIN).unwrap();
    let steps = Generation::step_together(&mut [&mut first, &mut second], &pool, &|| false);
    assert_eq!(*steps[0].as_ref().unwrap(), Step::Prefilling { done_tokens: 5, total_tokens: 5 });
    assert!(steps[1].is_err());
    assert!(second.is_prefilling());
    assert!(Generation::step_together(&mut [], &pool, &|| false).is_empty());
}

#[test]
fn an_answer_that_is_cut_can_end_with_a_sentence() {
    let model = model();
    let ids = model.prompt_tokens(&user("Tell me about the sea.")).unwrap();
    let (whole, _) = run(&model, &ids, &greedy(60), PLAIN);
    let (cut, generation) = run(&model, &ids, &GenerateParams { whole_sentences: true, ..greedy(60) }, PLAIN);
    assert!(whole.starts_with(&cut) && cut.len() < whole.len() && !cut.is_empty(), "{cut:?} of {whole:?}");
    assert!(cut.ends_with(['.', '!', '?', ':', '"']), "{cut:?}");
    assert_eq!((generation.text(), generation.usage().completion_tokens), (cut.as_str(), 60));
    let mut generation = generation;
    assert_eq!(generation.step(&Pool::new(1).unwrap(), &|| false).unwrap(), Step::Finished(FinishReason::Length));
}
