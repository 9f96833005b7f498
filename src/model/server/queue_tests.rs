//! What the queue promises, checked without models or threads.

use super::queue::{EmbedJob, GenerateJob, Queue, Requester, Wanted};
use pg_rag_protocol::message::{GenerateParams, Lane};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

#[derive(Clone)]
struct Caller {
    name: &'static str,
    gone: Rc<Cell<bool>>,
}

impl Requester for Caller {
    fn is_cancelled(&self) -> bool {
        self.gone.get()
    }
}

fn caller(name: &'static str) -> Caller {
    Caller { name, gone: Rc::default() }
}

/// A job of inputs with the given lengths; input i consists of the token `first + i`.
fn job(requester: Caller, model_id: u64, first: u32, lengths: &[usize]) -> EmbedJob<&'static str, Caller> {
    let inputs = lengths.iter().enumerate().map(|(index, length)| vec![first + index as u32; *length]).collect();
    EmbedJob::new(requester, "model", model_id, Wanted::Vectors(1), inputs)
}

fn generation(requester: Caller) -> GenerateJob<&'static str, Caller> {
    let params = GenerateParams {
        max_tokens: 1,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        repeat_penalty: 1.0,
        seed: 0,
        stop: Vec::new(),
        whole_sentences: false,
        json_schema: None,
    };
    GenerateJob { requester, model: "model", prompt: vec![1], params, stream: false, queued_at: Instant::now() }
}

/// "Computes" a batch: the row of an input is its first token.
fn rows(inputs: &[Vec<u32>]) -> Vec<f32> {
    inputs.iter().map(|ids| ids[0] as f32).collect()
}

fn push(queue: &mut Queue<&'static str, Caller>, lane: Lane, job: EmbedJob<&'static str, Caller>) {
    assert!(queue.push_embed(lane, job).is_ok());
}

#[test]
fn rows_come_back_in_the_order_of_the_request_whatever_the_lengths() {
    let mut queue = Queue::new(8);
    push(&mut queue, Lane::Bulk, job(caller("a"), 1, 10, &[3, 9, 1, 9, 2, 7]));
    let mut finished = Vec::new();
    while let Some(batch) = queue.next_micro_batch(Lane::Bulk, 10) {
        let tokens: usize = batch.inputs.iter().map(Vec::len).sum();
        assert!(tokens <= 10);
        finished.extend(queue.complete(&batch, &rows(&batch.inputs)));
    }
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].take_values(), [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]);
    assert_eq!(finished[0].tokens, 31);
    assert!(queue.is_empty());
}

#[test]
fn what_a_batch_has_not_reached_waits_again() {
    for reached in 1..=4 {
        let mut queue = Queue::new(8);
        push(&mut queue, Lane::Bulk, job(caller("a"), 1, 10, &[3, 9, 1]));
        push(&mut queue, Lane::Bulk, job(caller("b"), 1, 20, &[4, 2]));
        let batch = queue.next_micro_batch(Lane::Bulk, 18).unwrap();
        assert_eq!(batch.inputs.iter().map(Vec::len).collect::<Vec<_>>(), [9, 4, 3, 2]);
        let rows_reached = &rows(&batch.inputs)[..reached];
        assert!(batch.is_given_by_leading(reached) && !batch.is_given_by_leading(0) && !batch.is_given_by_leading(5));
        let mut finished = queue.complete(&batch, rows_reached);
        let mut order = Vec::new();
        while let Some(batch) = queue.next_micro_batch(Lane::Bulk, 1) {
            order.push(batch.inputs[0].len());
            finished.extend(queue.complete(&batch, &rows(&batch.inputs)));
        }
        order.sort_unstable();
        let mut expected = [[9, 4, 3, 2].split_at(reached).1, &[1]].concat();
        expected.sort_unstable();
        assert_eq!(order, expected);
        finished.sort_by_key(|job| job.requester.name);
        assert_eq!(finished[0].take_values(), [10.0, 11.0, 12.0]);
        assert_eq!(finished[1].take_values(), [20.0, 21.0]);
        assert!(queue.is_empty());
    }
}

#[test]
fn an_input_larger_than_the_budget_goes_alone() {
    let mut queue = Queue::new(8);
    push(&mut queue, Lane::Interactive, job(caller("a"), 1, 0, &[100, 100]));
    assert_eq!(queue.next_micro_batch(Lane::Interactive, 10).unwrap().inputs.len(), 1);
}

#[test]
fn a_short_request_shares_the_next_micro_batch_of_a_huge_one() {
    let mut queue = Queue::new(8);
    push(&mut queue, Lane::Interactive, job(caller("huge"), 1, 0, &[8; 5000]));
    let first = queue.next_micro_batch(Lane::Interactive, 64).unwrap();
    queue.complete(&first, &rows(&first.inputs));
    push(&mut queue, Lane::Interactive, job(caller("short"), 1, 7000, &[8]));
    let second = queue.next_micro_batch(Lane::Interactive, 64).unwrap();
    assert!(second.is_shared());
    let finished = queue.complete(&second, &rows(&second.inputs));
    assert_eq!(finished.iter().map(|job| job.requester.name).collect::<Vec<_>>(), ["short"]);
    assert_eq!(queue.waiting(), 1);
}

#[test]
fn models_take_turns() {
    let mut queue = Queue::new(8);
    push(&mut queue, Lane::Interactive, job(caller("a"), 1, 0, &[8; 4]));
    push(&mut queue, Lane::Interactive, job(caller("b"), 2, 0, &[8; 4]));
    let served: Vec<u64> = (0..4)
        .map(|_| {
            let batch = queue.next_micro_batch(Lane::Interactive, 16).unwrap();
            queue.complete(&batch, &rows(&batch.inputs));
            batch.model_id
        })
        .collect();
    assert_eq!(served, [1, 2, 1, 2]);
}

#[test]
fn a_cancelled_job_leaves_and_its_late_rows_are_ignored() {
    let mut queue = Queue::new(8);
    let quitter = caller("quitter");
    push(&mut queue, Lane::Interactive, job(quitter.clone(), 1, 0, &[4, 4]));
    push(&mut queue, Lane::Interactive, job(caller("stays"), 1, 50, &[4]));
    let batch = queue.next_micro_batch(Lane::Interactive, 100).unwrap();
    quitter.gone.set(true);
    queue.drop_cancelled();
    let mut finished = queue.complete(&batch, &rows(&batch.inputs));
    assert_eq!(finished.len(), 1);
    assert_eq!(finished[0].take_values(), [50.0]);
    assert!(queue.is_empty());
}

#[test]
fn the_limit_counts_all_lines_and_forgets_cancelled_jobs() {
    let mut queue = Queue::new(3);
    let quitter = caller("quitter");
    push(&mut queue, Lane::Interactive, job(quitter.clone(), 1, 0, &[1]));
    push(&mut queue, Lane::Bulk, job(caller("b"), 1, 0, &[1]));
    assert!(queue.push_generation(generation(caller("c"))).is_ok());
    assert!(queue.push_generation(generation(caller("d"))).is_err());
    assert!(queue.push_embed(Lane::Bulk, job(caller("e"), 1, 0, &[1])).is_err());
    quitter.gone.set(true);
    assert!(queue.push_generation(generation(caller("f"))).is_ok());
    assert_eq!(queue.waiting(), 3);
    assert_eq!(queue.pop_generation().unwrap().requester.name, "c");
}

#[test]
fn a_failed_batch_splits_into_its_jobs_and_only_the_failing_one_is_taken_out() {
    let mut queue = Queue::new(8);
    push(&mut queue, Lane::Interactive, job(caller("a"), 1, 0, &[2, 2]));
    push(&mut queue, Lane::Interactive, job(caller("b"), 1, 90, &[2]));
    let parts = queue.next_micro_batch(Lane::Interactive, 100).unwrap().split_by_job();
    assert_eq!(parts.iter().map(|part| part.inputs.len()).collect::<Vec<_>>(), [2, 1]);
    let failed = queue.fail(&parts[1]);
    assert_eq!(failed.iter().map(|job| job.requester.name).collect::<Vec<_>>(), ["b"]);
    let finished = queue.complete(&parts[0], &rows(&parts[0].inputs));
    assert_eq!(finished.iter().map(|job| job.requester.name).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn jobs_that_want_different_things_share_no_pass() {
    let mut queue = Queue::new(10);
    let mut tokens = job(caller("tokens"), 1, 100, &[3, 1]);
    tokens = EmbedJob::new(tokens.requester, "model", 1, Wanted::TokenVectors(2), vec![vec![7; 3], vec![8]]);
    assert!(queue.push_embed(Lane::Interactive, job(caller("vectors"), 1, 0, &[3, 1])).is_ok());
    assert!(queue.push_embed(Lane::Interactive, tokens).is_ok());
    let vectors = queue.next_micro_batch(Lane::Interactive, 100).unwrap();
    assert_eq!((vectors.inputs.len(), vectors.is_given_by_leading(2), vectors.is_shared()), (2, true, false));
    let tokens = queue.next_micro_batch(Lane::Interactive, 100).unwrap();
    // The shorter input first: two numbers for its token, then six for three.
    assert_eq!((tokens.inputs.len(), tokens.is_given_by_leading(8)), (2, true));
    let rows: Vec<f32> = tokens.inputs.iter().flat_map(|ids| ids.iter().flat_map(|id| [*id as f32, 0.5])).collect();
    let mut done = queue.complete(&tokens, &rows);
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].take_values(), [7.0, 0.5, 7.0, 0.5, 7.0, 0.5, 8.0, 0.5]);
}

#[test]
fn a_batch_is_wanted_as_long_as_one_of_its_requesters_is_there() {
    let mut queue = Queue::new(10);
    let (first, second) = (caller("first"), caller("second"));
    assert!(queue.push_embed(Lane::Bulk, job(first.clone(), 1, 0, &[3])).is_ok());
    assert!(queue.push_embed(Lane::Bulk, job(second.clone(), 1, 10, &[3])).is_ok());
    let batch = queue.next_micro_batch(Lane::Bulk, 100).unwrap();
    assert!(batch.is_shared() && queue.is_wanted(&batch));
    first.gone.set(true);
    assert!(queue.is_wanted(&batch));
    second.gone.set(true);
    assert!(!queue.is_wanted(&batch));
}
