//! The engine thread: the only thread that starts forward passes.
//!
//! It goes round and round while there is work, and sleeps on a condition variable otherwise. One round is
//! 1. one micro-batch of interactive embeddings, if any wait; while nothing else is to be done, it waits a little for
//!    those that were answered together to be together again ([`super::company`]);
//! 2. one pass for each model that generates, in which all its generations in slots produce a token, and the one that came
//!    first of those whose prompt is still to be read reads a slice of it: so tokens share the reading of the weights;
//! 3. one micro-batch of bulk embeddings, if no interactive one waits. Beside nothing else it is a large one, so that
//!    threads seldom wait for each other at its end; when other work comes, or after two seconds, it ends with the passes
//!    through the layers that have begun, and the texts that it has not reached wait again.
//!
//! So nothing runs longer than one micro-batch or step before everything else gets its turn. A cancelled request is
//! dropped at that point, a generation even between two layers of its model. Generations beyond the slots wait, first
//! come first served; so does one for whose cache there is no memory, as long as others run that will free theirs.
//!
//! A panic in a model fails the requests of that pass with an internal error, and the model is evicted from the
//! registry: its next user gets a fresh copy. Nothing else can be affected: a generation owns its state, weights are
//! read-only, and the thread pool hands a panic to the thread that waits. So the process goes on. A panic of this thread
//! outside of a model ends it ([`process::vital`]): nobody would compute any more.

use super::company::Company;
use super::failure::{failure_of, internal, panic_text};
use super::memory::Share;
use super::process;
use super::queue::{EmbedJob, GenerateJob, MicroBatch, Queue, Requester, Wanted};
use super::registry::{Entry, Registry};
use super::reply::Ticket;
use super::runtime::{Run, Runtime};
use crate::compute::Pool;
use crate::decoder::Step;
use crate::error::{ModelError, Result};
use pg_rag_protocol::message::{Failure, GenerateParams, Lane, Response};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Generations that advance at the same time. More would slow each other down without being done earlier.
pub const GENERATION_SLOTS: usize = 8;

/// Tokens of one forward pass of an embedding model. Larger is hardly faster, but makes everybody else wait longer.
pub const MICRO_BATCH_TOKENS: usize = 1024;

/// The same for bulk while nothing else is to be done. Vectors come to their requests at its end.
const LONE_BATCH_TOKENS: usize = 8192;

/// How long such a batch begins passes: with a large model it ends before it has reached all of its texts, so that other
/// bulk requests get their turn.
const LONE_BATCH_TIME: Duration = Duration::from_secs(2);

type Embedding = EmbedJob<Arc<Entry>, Ticket>;
type Generation = GenerateJob<Arc<Entry>, Ticket>;

/// Takes jobs from connection threads; its engine thread runs them.
pub struct Scheduler {
    shared: Arc<Shared>,
    engine: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue<Arc<Entry>, Ticket>>,
    changed: Condvar,
    stopping: AtomicBool,
    generating: AtomicU32,
    registry: Arc<Registry>,
    pool: Pool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue<Arc<Entry>, Ticket>> {
        // The queue does not call into models or I/O, so a panic cannot leave it half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A generation in a slot.
struct Active {
    ticket: Ticket,
    model: Arc<Entry>,
    stream: bool,
    /// Bytes of the text that the client has already been sent.
    streamed_bytes: usize,
    queue_ms: f32,
    run: Box<dyn Run>,
    /// What the cache is counted with.
    _memory: Share,
}

impl Scheduler {
    /// Starts the engine thread. At most `max_queued` jobs wait; more are refused.
    pub fn start(registry: Arc<Registry>, pool: Pool, max_queued: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(max_queued)),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            generating: AtomicU32::new(0),
            registry,
            pool,
        });
        let engine = std::thread::Builder::new()
            .name("engine".into())
            .spawn({
                let shared = shared.clone();
                move || {
                    process::vital("engine", || {
                        Engine { shared, active: Vec::new(), company: Company::default() }.run()
                    })
                }
            })
            .map_err(|error| ModelError::Internal(format!("could not start the engine thread: {error}")))?;
        Ok(Self { shared, engine: Mutex::new(Some(engine)) })
    }

    /// Queues a job or answers its ticket with "overloaded".
    pub fn embed(&self, lane: Lane, job: Embedding) {
        let mut queue = self.shared.queue();
        let refused = queue.push_embed(lane, job).err();
        let waiting = queue.waiting();
        drop(queue);
        match refused {
            Some(job) => job.requester.fail(failure_of(&ModelError::Overloaded(waiting))),
            None => self.shared.changed.notify_one(),
        }
    }

    /// Queues a job or answers its ticket with "overloaded".
    pub fn generate(&self, job: Generation) {
        let mut queue = self.shared.queue();
        let refused = queue.push_generation(job).err();
        let waiting = queue.waiting();
        drop(queue);
        match refused {
            Some(job) => job.requester.fail(failure_of(&ModelError::Overloaded(waiting))),
            None => self.shared.changed.notify_one(),
        }
    }

    pub fn threads(&self) -> usize {
        self.shared.pool.threads()
    }

    /// Requests that wait, and generations in progress.
    pub fn load(&self) -> (usize, u32) {
        (self.shared.queue().waiting(), self.shared.generating.load(Ordering::Relaxed))
    }

    /// Ends the engine thread after its current round; jobs left over are answered "cancelled".
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // With the lock held the engine is either waiting, and is woken, or has yet to look at the flag.
        drop(self.shared.queue());
        self.shared.changed.notify_one();
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(engine) = engine {
            // The thread ends normally or has panicked, which its panic message has told.
            let _ = engine.join();
        }
    }
}

struct Engine {
    shared: Arc<Shared>,
    active: Vec<Active>,
    company: Company,
}

impl Engine {
    fn run(mut self) {
        while self.wait_for_work() {
            self.embed_micro_batch(Lane::Interactive);
            self.fill_slots();
            self.step_generations();
            if !self.shared.queue().has_interactive() {
                self.embed_micro_batch(Lane::Bulk);
            }
        }
    }

    /// Sleeps until there is something to do; `false` when the server stops.
    fn wait_for_work(&mut self) -> bool {
        self.active.retain(|active| !active.ticket.is_cancelled());
        self.publish_generating();
        let mut queue = self.shared.queue();
        loop {
            if self.shared.stopping.load(Ordering::SeqCst) {
                return false;
            }
            queue.drop_cancelled();
            if !self.active.is_empty() || queue.has_other_than_interactive() {
                return true;
            }
            if queue.is_empty() {
                queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let patience = self.company.patience(queue.interactive_waiting(), Instant::now());
            if patience.is_zero() {
                return true;
            }
            queue = self.shared.changed.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn publish_generating(&self) {
        self.shared.generating.store(self.active.len() as u32, Ordering::Relaxed);
    }

    fn embed_micro_batch(&mut self, lane: Lane) {
        let batch = {
            let mut queue = self.shared.queue();
            queue.drop_cancelled();
            let alone = lane == Lane::Bulk && self.active.is_empty() && !queue.is_urgent();
            queue.next_micro_batch(lane, if alone { LONE_BATCH_TOKENS } else { MICRO_BATCH_TOKENS })
        };
        let Some(batch) = batch else { return };
        let began = Instant::now();
        match self.compute(&batch) {
            Ok(rows) => {
                let (answered, waiting) = self.deliver(&batch, &rows);
                if lane == Lane::Interactive {
                    let now = Instant::now();
                    self.company = Company::after(answered, waiting, now - began, now);
                }
            }
            Err(failure) if batch.is_shared() => {
                // One request must not fail because of another: find out whose input it was.
                drop(failure);
                for part in batch.split_by_job() {
                    match self.compute(&part) {
                        Ok(rows) => drop(self.deliver(&part, &rows)),
                        Err(failure) => self.reject(&part, &failure),
                    }
                }
            }
            Err(failure) => self.reject(&batch, &failure),
        }
    }

    fn compute(&self, batch: &MicroBatch<Arc<Entry>>) -> std::result::Result<Vec<f32>, Failure> {
        let shared = &*self.shared;
        let (inputs, pool) = (&batch.inputs, &shared.pool);
        let began = Instant::now();
        let urgent = || batch.lane == Lane::Bulk && (began.elapsed() >= LONE_BATCH_TIME || shared.queue().is_urgent());
        let abandoned = || shared.stopping.load(Ordering::Relaxed) || !shared.queue().is_wanted(batch);
        let rows = match (&batch.model.runtime, batch.wanted) {
            (Runtime::Embed(model), Wanted::Vectors(_)) => {
                self.guard(batch.model_id, || model.embed(inputs, pool, &abandoned, &urgent))?
            }
            (Runtime::Embed(model), Wanted::TokenVectors(_)) => {
                self.guard(batch.model_id, || model.embed_tokens(inputs, pool, &abandoned))?
            }
            (Runtime::Rerank(model), Wanted::Scores) => {
                self.guard(batch.model_id, || model.score(inputs, pool, &abandoned))?
            }
            (_, wanted) => return Err(internal(format!("a model of another kind was asked for {wanted:?}"))),
        };
        if batch.is_given_by_leading(rows.len()) {
            Ok(rows)
        } else {
            Err(internal(format!("{} numbers for {} texts", rows.len(), batch.inputs.len())))
        }
    }

    /// Calls into a model; a panic there becomes a failure, and the model is evicted.
    fn guard<T>(&self, model_id: u64, call: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failure> {
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => result.map_err(|error| failure_of(&error)),
            Err(panic) => {
                self.shared.registry.evict(model_id);
                Err(internal(format!("the model panicked: {}", panic_text(&*panic))))
            }
        }
    }

    /// Answers the requests that are complete. Returns how many, and how many interactive ones wait.
    fn deliver(&self, batch: &MicroBatch<Arc<Entry>>, rows: &[f32]) -> (usize, usize) {
        let (finished, waiting) = {
            let mut queue = self.shared.queue();
            (queue.complete(batch, rows), queue.interactive_waiting())
        };
        let answered = finished.len();
        for mut job in finished {
            job.model.add_tokens(job.tokens);
            let (values, tokens) = (job.take_values(), job.tokens);
            job.requester.finish(match job.wanted {
                Wanted::Vectors(dimensions) => Response::Embeddings { dimensions: dimensions as u32, values, tokens },
                Wanted::TokenVectors(dimensions) => {
                    let (tokens, spellings) = job.detail.unwrap_or_default();
                    Response::TokenEmbeddings { dimensions: dimensions as u32, values, tokens, spellings }
                }
                Wanted::Scores => Response::Scores { values, tokens },
            });
        }
        (answered, waiting)
    }

    fn reject(&self, batch: &MicroBatch<Arc<Entry>>, failure: &Failure) {
        let failed = self.shared.queue().fail(batch);
        for job in failed {
            job.requester.fail(failure.clone());
        }
    }

    fn fill_slots(&mut self) {
        while self.active.len() < GENERATION_SLOTS {
            let Some(job) = self.shared.queue().pop_generation() else { break };
            let queue_ms = job.queued_at.elapsed().as_secs_f32() * 1000.0;
            let Runtime::Generate(model) = &job.model.runtime else {
                job.requester.fail(internal("a model of another kind was asked for text"));
                continue;
            };
            let tokens = job.prompt.len().saturating_add(job.params.max_tokens as usize);
            let memory = self
                .shared
                .registry
                .take_memory(model.sequence_bytes(tokens), || format!("a generation of up to {tokens} tokens"));
            let memory = match memory {
                Ok(memory) => memory,
                Err(_) if !self.active.is_empty() => {
                    self.shared.queue().put_back(job);
                    break;
                }
                Err(error) => {
                    job.requester.fail(failure_of(&error));
                    continue;
                }
            };
            match self.guard(job.model.id, || model.clone().start(job.prompt, job.params)) {
                Ok(run) => self.active.push(Active {
                    ticket: job.requester,
                    model: job.model,
                    stream: job.stream,
                    streamed_bytes: 0,
                    queue_ms,
                    run,
                    _memory: memory,
                }),
                Err(failure) => job.requester.fail(failure),
            }
        }
        self.publish_generating();
    }

    fn step_generations(&mut self) {
        let mut left = std::mem::take(&mut self.active);
        left.retain(|active| !active.ticket.is_cancelled());
        while let Some(model) = left.first().map(|active| active.model.clone()) {
            let (mine, others) = left.into_iter().partition::<Vec<_>, _>(|active| active.model.id == model.id);
            left = others;
            self.step_model(&model, mine);
        }
        self.publish_generating();
    }

    /// Lets the generations of one model advance.
    fn step_model(&mut self, model: &Entry, generations: Vec<Active>) {
        let mut reads_prompt = false;
        let may_go = |active: &Active| !active.run.is_prefilling() || !std::mem::replace(&mut reads_prompt, true);
        let (mut going, waiting) = generations.into_iter().partition::<Vec<_>, _>(may_go);
        let Runtime::Generate(runtime) = &model.runtime else { return };
        let stopping = &self.shared.stopping;
        let (tickets, mut runs): (Vec<&Ticket>, Vec<&mut dyn Run>) =
            going.iter_mut().map(|active| (&active.ticket, &mut *active.run)).unzip();
        let abandoned = || stopping.load(Ordering::Relaxed) || tickets.iter().any(|ticket| ticket.is_cancelled());
        let steps = self.guard(model.id, || Ok(runtime.step_together(&mut runs, &self.shared.pool, &abandoned)));
        match steps {
            Ok(steps) => going.into_iter().zip(steps).for_each(|(active, step)| self.take_step(active, step)),
            Err(failure) => going.into_iter().for_each(|active| active.ticket.fail(failure.clone())),
        }
        // Behind: the first that reads its prompt goes on with it.
        self.active.extend(waiting);
    }

    /// What a step has given.
    fn take_step(&mut self, mut active: Active, step: Result<Step>) {
        match step {
            // Perhaps because of another one; if not, the next round drops it, which answers "cancelled".
            Ok(Step::Abandoned | Step::Prefilling { .. }) => self.active.push(active),
            Ok(Step::Token(piece)) => {
                if active.stream && !piece.is_empty() {
                    active.streamed_bytes += piece.len();
                    active.ticket.send_part(Response::Token(piece));
                }
                self.active.push(active);
            }
            Ok(Step::Finished(finish)) => {
                let mut usage = active.run.usage();
                usage.queue_ms = active.queue_ms;
                active.model.add_tokens(u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens));
                let text = active.run.text().to_owned();
                // What was held back because it could have become a stop text.
                if let (true, Some(rest)) = (active.stream, text.get(active.streamed_bytes..)) {
                    if !rest.is_empty() {
                        active.ticket.send_part(Response::Token(rest.to_owned()));
                    }
                }
                active.ticket.finish(Response::Generated { text, finish, usage });
            }
            Err(error) => active.ticket.fail(failure_of(&error)),
        }
    }
}

/// A job for [`Scheduler::generate`], queued now.
pub fn generation(
    ticket: Ticket,
    model: Arc<Entry>,
    prompt: Vec<u32>,
    params: GenerateParams,
    stream: bool,
) -> Generation {
    GenerateJob { requester: ticket, model, prompt, params, stream, queued_at: Instant::now() }
}
