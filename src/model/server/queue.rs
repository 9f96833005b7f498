//! Which work waits, and which goes next. A plain data structure: no thread, no clock, no model.
//!
//! Three lines of jobs: interactive embeddings, bulk embeddings, generations that wait for a slot. Scores of pairs and
//! vectors of tokens are embeddings here: what differs is how many numbers an input gives. Embedding jobs are
//! served in micro-batches of bounded tokens that mix the texts of all waiting jobs of one model, one text of each job
//! in turn, so that a short request is done with the next micro-batch even when a request of thousands of texts came
//! first. After each micro-batch the job at the head goes to the end of its line, so that no model starves another.
//!
//! Invariants: a job is in exactly one line until it is complete, cancelled or failed; the rows of a job are in the
//! order of its inputs; [`Queue::waiting`] never exceeds the limit. Caller: `scheduler.rs`, under its lock.

use pg_rag_protocol::message::{GenerateParams, Lane, TokenizedText};
use std::collections::VecDeque;
use std::time::Instant;

/// The one who waits for a job.
pub trait Requester {
    /// Whether nobody wants the result any more.
    fn is_cancelled(&self) -> bool;
}

/// What a job wants to know of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A vector of each, of so many numbers.
    Vectors(usize),
    /// A vector of each token, of so many numbers.
    TokenVectors(usize),
    /// A score of each.
    Scores,
}

impl Wanted {
    /// Numbers that an input of so many tokens gives.
    pub fn numbers(self, tokens: usize) -> usize {
        match self {
            Wanted::Vectors(dimensions) => dimensions,
            Wanted::TokenVectors(dimensions) => tokens.saturating_mul(dimensions),
            Wanted::Scores => 1,
        }
    }
}

/// Texts of one request to embed. `M` is the model, `R` the requester.
pub struct EmbedJob<M, R> {
    pub requester: R,
    pub model: M,
    /// Jobs with equal ids that want the same share micro-batches.
    pub model_id: u64,
    pub wanted: Wanted,
    /// Of the only input, for an answer with [`Wanted::TokenVectors`]: its tokens and their spellings.
    pub detail: Option<(TokenizedText, Vec<String>)>,
    pub tokens: u64,
    /// Where in `values` the numbers of each input begin, and where those of the last one end.
    starts: Vec<usize>,
    /// Token ids by input; taken out when the input goes into a micro-batch.
    inputs: Vec<Vec<u32>>,
    /// Inputs not yet in a micro-batch, shortest first: the next one is popped from the end, so neighbours in a
    /// micro-batch have similar lengths.
    remaining: Vec<usize>,
    rows_missing: usize,
    values: Vec<f32>,
    id: u64,
}

impl<M, R> EmbedJob<M, R> {
    /// `inputs` must not be empty.
    pub fn new(requester: R, model: M, model_id: u64, wanted: Wanted, inputs: Vec<Vec<u32>>) -> Self {
        let mut starts = vec![0];
        for ids in &inputs {
            starts.push(starts[starts.len() - 1] + wanted.numbers(ids.len()));
        }
        let mut remaining: Vec<usize> = (0..inputs.len()).collect();
        // Stable and reversed, so that equal lengths leave in the order of the request.
        remaining.reverse();
        remaining.sort_by_key(|input| inputs[*input].len());
        Self {
            requester,
            model,
            model_id,
            wanted,
            detail: None,
            tokens: inputs.iter().map(|ids| ids.len() as u64).sum(),
            rows_missing: inputs.len(),
            values: vec![0.0; starts[inputs.len()]],
            starts,
            inputs,
            remaining,
            id: 0,
        }
    }

    /// The finished numbers, in the order of the request.
    pub fn take_values(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.values)
    }
}

/// A generation that waits for a slot.
pub struct GenerateJob<M, R> {
    pub requester: R,
    pub model: M,
    pub prompt: Vec<u32>,
    pub params: GenerateParams,
    pub stream: bool,
    pub queued_at: Instant,
}

/// Inputs of one forward pass.
pub struct MicroBatch<M> {
    pub model: M,
    pub model_id: u64,
    pub wanted: Wanted,
    pub lane: Lane,
    pub inputs: Vec<Vec<u32>>,
    /// For each input the job and its index there.
    owners: Vec<(u64, usize)>,
}

impl<M: Clone> MicroBatch<M> {
    /// Splits the batch into one per job; a single one when all inputs belong to the same job.
    pub fn split_by_job(self) -> Vec<MicroBatch<M>> {
        let mut parts: Vec<MicroBatch<M>> = Vec::new();
        for (ids, owner) in self.inputs.into_iter().zip(self.owners) {
            let part = match parts.iter_mut().find(|part| part.owners[0].0 == owner.0) {
                Some(part) => part,
                None => {
                    parts.push(MicroBatch {
                        model: self.model.clone(),
                        model_id: self.model_id,
                        wanted: self.wanted,
                        lane: self.lane,
                        inputs: Vec::new(),
                        owners: Vec::new(),
                    });
                    let last = parts.len() - 1;
                    &mut parts[last]
                }
            };
            part.inputs.push(ids);
            part.owners.push(owner);
        }
        parts
    }

    /// Whether so many numbers are what all inputs give, or the leading ones, at least one.
    pub fn is_given_by_leading(&self, numbers: usize) -> bool {
        let mut left = numbers;
        for ids in &self.inputs {
            let Some(others) = left.checked_sub(self.wanted.numbers(ids.len())) else { return false };
            left = others;
            if left == 0 {
                return true;
            }
        }
        false
    }

    /// Whether inputs of more than one job are in it.
    pub fn is_shared(&self) -> bool {
        self.owners.iter().any(|owner| owner.0 != self.owners[0].0)
    }
}

/// All waiting work.
pub struct Queue<M, R> {
    interactive: VecDeque<EmbedJob<M, R>>,
    bulk: VecDeque<EmbedJob<M, R>>,
    generations: VecDeque<GenerateJob<M, R>>,
    max_waiting: usize,
    next_id: u64,
}

impl<M: Clone, R: Requester> Queue<M, R> {
    /// A queue that refuses a job when `max_waiting` are in it.
    pub fn new(max_waiting: usize) -> Self {
        Self {
            interactive: VecDeque::new(),
            bulk: VecDeque::new(),
            generations: VecDeque::new(),
            max_waiting,
            next_id: 1,
        }
    }

    /// Jobs that are not complete (embeddings) or have not begun (generations).
    pub fn waiting(&self) -> usize {
        self.interactive.len() + self.bulk.len() + self.generations.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    fn has_room(&mut self) -> bool {
        if self.waiting() >= self.max_waiting {
            self.drop_cancelled();
        }
        self.waiting() < self.max_waiting
    }

    fn line(&mut self, lane: Lane) -> &mut VecDeque<EmbedJob<M, R>> {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Appends the job, or gives it back when too many are waiting.
    pub fn push_embed(&mut self, lane: Lane, mut job: EmbedJob<M, R>) -> Result<(), Box<EmbedJob<M, R>>> {
        if !self.has_room() {
            return Err(Box::new(job));
        }
        job.id = self.next_id;
        self.next_id += 1;
        self.line(lane).push_back(job);
        Ok(())
    }

    /// Appends the job, or gives it back when too many are waiting.
    pub fn push_generation(&mut self, job: GenerateJob<M, R>) -> Result<(), GenerateJob<M, R>> {
        if !self.has_room() {
            return Err(job);
        }
        self.generations.push_back(job);
        Ok(())
    }

    /// Drops every job that nobody waits for.
    pub fn drop_cancelled(&mut self) {
        self.interactive.retain(|job| !job.requester.is_cancelled());
        self.bulk.retain(|job| !job.requester.is_cancelled());
        self.generations.retain(|job| !job.requester.is_cancelled());
    }

    /// The generation that waits longest.
    pub fn pop_generation(&mut self) -> Option<GenerateJob<M, R>> {
        self.generations.pop_front()
    }

    /// Puts back what [`Queue::pop_generation`] gave: it is still the one that waits longest.
    pub fn put_back(&mut self, job: GenerateJob<M, R>) {
        self.generations.push_front(job);
    }

    pub fn has_interactive(&self) -> bool {
        !self.interactive.is_empty()
    }

    pub fn interactive_waiting(&self) -> usize {
        self.interactive.len()
    }

    /// Whether bulk or a generation waits.
    pub fn has_other_than_interactive(&self) -> bool {
        self.waiting() > self.interactive.len()
    }

    /// Whether anything but bulk waits.
    pub fn is_urgent(&self) -> bool {
        self.has_interactive() || !self.generations.is_empty()
    }

    /// The next forward pass of this lane: at most `max_tokens` tokens, but always at least one input.
    pub fn next_micro_batch(&mut self, lane: Lane, max_tokens: usize) -> Option<MicroBatch<M>> {
        let line = self.line(lane);
        let head = line.front()?;
        let (model_id, wanted) = (head.model_id, head.wanted);
        let model = head.model.clone();
        let mut batch = MicroBatch { model, model_id, wanted, lane, inputs: Vec::new(), owners: Vec::new() };
        let mut tokens = 0;
        loop {
            let mut took_any = false;
            for job in line.iter_mut().filter(|job| job.model_id == model_id && job.wanted == wanted) {
                let Some(&input) = job.remaining.last() else { continue };
                let input_tokens = job.inputs[input].len();
                if !batch.inputs.is_empty() && tokens + input_tokens > max_tokens {
                    continue;
                }
                job.remaining.pop();
                tokens += input_tokens;
                batch.inputs.push(std::mem::take(&mut job.inputs[input]));
                batch.owners.push((job.id, input));
                took_any = true;
            }
            if !took_any {
                break;
            }
        }
        line.rotate_left(1);
        // A job without remaining inputs is in a micro-batch that is being computed; the caller computes one at a time.
        (!batch.inputs.is_empty()).then_some(batch)
    }

    /// Puts the rows of a micro-batch into its jobs and takes out the jobs that are complete.
    ///
    /// `rows` holds what each input of the batch gives, or each of the leading ones
    /// ([`MicroBatch::is_given_by_leading`]); the others wait again. Jobs that were cancelled meanwhile are skipped.
    pub fn complete(&mut self, batch: &MicroBatch<M>, mut rows: &[f32]) -> Vec<EmbedJob<M, R>> {
        let line = self.line(batch.lane);
        let mut inputs = batch.owners.iter().zip(&batch.inputs).peekable();
        while let Some(((job_id, input), ids)) =
            inputs.next_if(|(_, ids)| batch.wanted.numbers(ids.len()) <= rows.len())
        {
            let (row, others) = rows.split_at(batch.wanted.numbers(ids.len()));
            rows = others;
            let Some(job) = line.iter_mut().find(|job| job.id == *job_id) else { continue };
            if let Some(place) = job.values.get_mut(job.starts[*input]..job.starts[input + 1]) {
                if place.len() == row.len() {
                    place.copy_from_slice(row);
                    job.rows_missing -= 1;
                }
            }
        }
        // As they were taken: the last one first.
        for ((job_id, input), ids) in inputs.rev() {
            if let Some(job) = line.iter_mut().find(|job| job.id == *job_id) {
                job.inputs[*input].clone_from(ids);
                job.remaining.push(*input);
            }
        }
        Self::take_out(line, |job| job.rows_missing == 0)
    }

    /// Whether somebody still waits for an input of the batch.
    pub fn is_wanted(&self, batch: &MicroBatch<M>) -> bool {
        let line = match batch.lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        };
        let waits = |job: &EmbedJob<M, R>| !job.requester.is_cancelled();
        batch.owners.iter().any(|(job_id, _)| line.iter().any(|job| job.id == *job_id && waits(job)))
    }

    /// Takes out the jobs of a micro-batch that could not be computed.
    pub fn fail(&mut self, batch: &MicroBatch<M>) -> Vec<EmbedJob<M, R>> {
        Self::take_out(self.line(batch.lane), |job| batch.owners.iter().any(|(job_id, _)| *job_id == job.id))
    }

    fn take_out(line: &mut VecDeque<EmbedJob<M, R>>, chosen: impl Fn(&EmbedJob<M, R>) -> bool) -> Vec<EmbedJob<M, R>> {
        let (taken, kept) = std::mem::take(line).into_iter().partition::<Vec<_>, _>(chosen);
        *line = kept.into();
        taken
    }
}
