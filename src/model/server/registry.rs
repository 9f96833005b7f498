//! The models in memory: one copy per name, kind, files and options, loaded at first use.
//!
//! Invariants: a model is loaded by exactly one thread while every other caller that wants it waits for that attempt
//! and gets its outcome; a failed attempt is not remembered, the next caller tries again; the lock is never held
//! while a model loads. An entry that was unloaded lives on until the last request that uses it is done. What a model
//! needs is taken from the [`Budget`] before it is loaded; where that has too little left, models that nobody uses are
//! unloaded, the one that was idle for longest first.
//! Callers: connection threads, which may block; never the engine thread.

use super::failure::{failure_of, internal, panic_text};
use super::memory::{Budget, Share};
use super::runtime::{Loader, Needs, Runtime};
use crate::error::ModelError;
use crate::quantize::Mix;
use pg_rag_protocol::message::{Failure, LoadedModel, ModelFile, ModelKind, ModelRef};
use std::collections::HashMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What makes two references the same model. The path is not part of it: the hashes say what the files hold.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    kind: ModelKind,
    files: Vec<ModelFile>,
    options_json: String,
    /// Files of the base of an adapter.
    base_files: Vec<ModelFile>,
}

/// A model in memory and what it has done.
pub struct Entry {
    /// Unique among all entries that ever were.
    pub id: u64,
    pub runtime: Runtime,
    key: Key,
    load_ms: f32,
    requests: AtomicU64,
    tokens: AtomicU64,
    last_use: Mutex<Instant>,
    /// The base of an adapter, which stays in memory as long as the adapter.
    _base: Option<Arc<Entry>>,
    _memory: Share,
}

impl Entry {
    /// Counts a request.
    fn touch(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        *self.last_use.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Counts tokens that went through the model.
    pub fn add_tokens(&self, tokens: u64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    fn describe(&self) -> LoadedModel {
        LoadedModel {
            name: self.key.name.clone(),
            kind: self.key.kind,
            resident_bytes: self.runtime.text().resident_bytes(),
            load_ms: self.load_ms,
            requests: self.requests.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
            idle_s: self.idle().as_secs_f64(),
        }
    }

    /// Time since the last use began.
    fn idle(&self) -> Duration {
        self.last_use.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// One attempt to load a model; everybody who wants the model meanwhile waits here.
#[derive(Default)]
struct Attempt {
    outcome: Mutex<Option<Result<Arc<Entry>, Failure>>>,
    done: Condvar,
}

impl Attempt {
    fn finish(&self, outcome: Result<Arc<Entry>, Failure>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.done.notify_all();
    }

    fn wait(&self) -> Result<Arc<Entry>, Failure> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(outcome) = outcome.as_ref() {
                return outcome.clone();
            }
            outcome = self.done.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

enum Slot {
    Loading(Arc<Attempt>),
    Ready(Arc<Entry>),
}

/// All models of the process.
pub struct Registry {
    loader: Box<dyn Loader>,
    budget: Arc<Budget>,
    slots: Mutex<HashMap<Key, Slot>>,
    next_id: AtomicU64,
}

impl Registry {
    pub fn new(loader: Box<dyn Loader>, budget: Arc<Budget>) -> Self {
        Self { loader, budget, slots: Mutex::default(), next_id: AtomicU64::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        // Every change of the map is a single insert or remove, so it is whole whatever panicked elsewhere.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model, loaded now if it is not in memory. Counts as a use. Blocks while the model loads.
    pub fn get(&self, model: &ModelRef) -> Result<Arc<Entry>, Failure> {
        let key = Key {
            name: model.name.clone(),
            kind: model.kind,
            files: model.files.clone(),
            options_json: model.options_json.clone(),
            base_files: model.base.as_ref().map_or_else(Vec::new, |base| base.files.clone()),
        };
        let mut slots = self.lock();
        let entry = match slots.get(&key) {
            Some(Slot::Ready(entry)) => {
                let entry = entry.clone();
                drop(slots);
                entry
            }
            Some(Slot::Loading(attempt)) => {
                let attempt = attempt.clone();
                drop(slots);
                attempt.wait()?
            }
            None => {
                let attempt = Arc::new(Attempt::default());
                slots.insert(key.clone(), Slot::Loading(attempt.clone()));
                drop(slots);
                let outcome = self.load(&key, model);
                self.settle(key, &attempt, outcome.as_ref().ok());
                attempt.finish(outcome.clone());
                outcome?
            }
        };
        entry.touch();
        Ok(entry)
    }

    /// What a model takes in memory; see [`Loader::needs`].
    pub fn needs(&self, model: &ModelRef, context_tokens: Option<usize>, mix: Option<Mix>) -> crate::Result<Needs> {
        self.loader.needs(model, context_tokens, mix)
    }

    /// What a model is counted with while it is loaded.
    pub fn needed_bytes(&self, model: &ModelRef) -> crate::Result<u64> {
        Ok(self.needs(model, None, None)?.loaded_bytes())
    }

    fn load(&self, key: &Key, model: &ModelRef) -> Result<Arc<Entry>, Failure> {
        let started = Instant::now();
        let base = match &model.base {
            // An adapter of an adapter would wait for itself if it were its own.
            Some(base) if base.base.is_some() => {
                return Err(failure_of(&ModelError::InvalidArgument("the base of an adapter is an adapter".into())));
            }
            Some(base) => Some(self.get(base)?),
            None => None,
        };
        let load = || {
            let needed_bytes = self.needed_bytes(model)?;
            let memory = self.take_memory(needed_bytes, || format!("model \"{}\"", model.name))?;
            let runtime = match &base {
                Some(base) => self.loader.load_adapter(model, &base.runtime)?,
                None => self.loader.load(model)?,
            };
            Ok((memory, runtime))
        };
        let (memory, runtime) = match catch_unwind(AssertUnwindSafe(load)) {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => return Err(failure_of(&error)),
            // Waiters must be told, whatever happened.
            Err(panic) => return Err(internal(format!("loading the model panicked: {}", panic_text(&*panic)))),
        };
        Ok(Arc::new(Entry {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            runtime,
            key: key.clone(),
            load_ms: started.elapsed().as_secs_f32() * 1000.0,
            requests: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            last_use: Mutex::new(Instant::now()),
            _base: base,
            _memory: memory,
        }))
    }

    /// Takes memory, unloading models that nobody uses as long as there is too little. `what` needs it.
    ///
    /// Errors: `MemoryLimit`.
    pub fn take_memory(&self, needed_bytes: u64, what: impl FnOnce() -> String) -> Result<Share, ModelError> {
        loop {
            if let Some(share) = self.budget.take(needed_bytes) {
                return Ok(share);
            }
            if self.unload_longest_idle(Duration::ZERO).is_none() {
                let limit_bytes = self.budget.limit_bytes().unwrap_or(u64::MAX);
                let left_bytes = limit_bytes.saturating_sub(self.budget.taken_bytes());
                return Err(ModelError::MemoryLimit { what: what(), needed_bytes, left_bytes, limit_bytes });
            }
        }
    }

    /// Unloads the model that nobody has used for longest, and for so long at least. Gives for how long.
    fn unload_longest_idle(&self, least: Duration) -> Option<Duration> {
        let mut slots = self.lock();
        let idle = |slot: &Slot| match slot {
            // Others get a copy of the pointer under the lock only, so one that is alone stays alone.
            Slot::Ready(entry) if Arc::strong_count(entry) == 1 => Some(entry.idle()),
            _ => None,
        };
        let longest = slots.iter().filter_map(|(key, slot)| Some((idle(slot)?, key)));
        let (time, key) = longest.max_by_key(|(time, _)| *time).filter(|(time, _)| *time >= least)?;
        let key = key.clone();
        let removed = slots.remove(&key);
        drop(slots);
        // Freeing the weights takes a while; nobody should wait for the lock during it.
        drop(removed);
        Some(time)
    }

    /// Unloads all models that nobody has used for so long.
    pub fn unload_idle(&self, least: Duration) {
        while self.unload_longest_idle(least).is_some() {}
    }

    /// Replaces the attempt in the map by its result, unless it was unloaded meanwhile.
    fn settle(&self, key: Key, attempt: &Arc<Attempt>, entry: Option<&Arc<Entry>>) {
        let mut slots = self.lock();
        let is_current = matches!(slots.get(&key), Some(Slot::Loading(current)) if Arc::ptr_eq(current, attempt));
        if !is_current {
            return;
        }
        match entry {
            Some(entry) => slots.insert(key, Slot::Ready(entry.clone())),
            None => slots.remove(&key),
        };
    }

    /// Forgets every copy with this name.
    pub fn unload(&self, name: &str) {
        let mut slots = self.lock();
        let removed: Vec<Key> = slots.keys().filter(|key| key.name == name).cloned().collect();
        let removed: Vec<_> = removed.iter().filter_map(|key| slots.remove(key)).collect();
        drop(slots);
        // Freeing the weights takes a while; nobody should wait for the lock during it.
        drop(removed);
    }

    /// Forgets one copy, because it may not be trusted any more.
    pub fn evict(&self, id: u64) {
        self.lock().retain(|_, slot| !matches!(slot, Slot::Ready(entry) if entry.id == id));
    }

    /// The loaded models, by name.
    pub fn describe(&self) -> Vec<LoadedModel> {
        let entries: Vec<Arc<Entry>> = self
            .lock()
            .values()
            .filter_map(|slot| match slot {
                Slot::Ready(entry) => Some(entry.clone()),
                Slot::Loading(_) => None,
            })
            .collect();
        let mut models: Vec<LoadedModel> = entries.iter().map(|entry| entry.describe()).collect();
        models.sort_by(|left, right| left.name.cmp(&right.name));
        models
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::{embed_model, generate_model, TestLoader};
    use pg_rag_protocol::message::FailureKind;

    #[test]
    fn one_thread_loads_while_the_others_wait_for_the_same_copy() {
        let loader = TestLoader::default();
        let loads = loader.loads.clone();
        let registry = Arc::new(Registry::new(Box::new(loader), Budget::new(None)));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let registry = registry.clone();
                std::thread::spawn(move || registry.get(&embed_model("slow to load")).unwrap().id)
            })
            .collect();
        let ids: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        assert_eq!(registry.describe()[0].requests, 8);
    }

    #[test]
    fn a_failed_load_is_tried_again() {
        let loader = TestLoader::default();
        let loads = loader.loads.clone();
        let registry = Registry::new(Box::new(loader), Budget::new(None));
        for _ in 0..2 {
            let failure = registry.get(&embed_model("missing")).err().unwrap();
            assert_eq!(failure.kind, FailureKind::ModelMissing);
        }
        assert_eq!(loads.load(Ordering::SeqCst), 2);
        assert!(registry.describe().is_empty());
    }

    #[test]
    fn a_panic_while_loading_is_an_internal_failure() {
        let registry = Registry::new(Box::<TestLoader>::default(), Budget::new(None));
        let failure = registry.get(&embed_model("panics at load")).err().unwrap();
        assert_eq!(failure.kind, FailureKind::Internal);
    }

    #[test]
    fn unload_forgets_the_name_and_the_next_use_loads_again() {
        let registry = Registry::new(Box::<TestLoader>::default(), Budget::new(None));
        let first = registry.get(&embed_model("a")).unwrap();
        let other = registry.get(&embed_model("b")).unwrap();
        registry.unload("a");
        assert_eq!(registry.describe().len(), 1);
        assert_ne!(registry.get(&embed_model("a")).unwrap().id, first.id);
        assert_eq!(registry.get(&embed_model("b")).unwrap().id, other.id);
    }

    #[test]
    fn other_files_under_the_same_name_are_another_copy() {
        let registry = Registry::new(Box::<TestLoader>::default(), Budget::new(None));
        let mut other = embed_model("a");
        other.files[0].sha256 = "ff".repeat(32);
        assert_ne!(registry.get(&embed_model("a")).unwrap().id, registry.get(&other).unwrap().id);
        assert_eq!(registry.describe().len(), 2);
    }

    #[test]
    fn idle_models_make_room_and_those_in_use_do_not() {
        let registry = Registry::new(Box::<TestLoader>::default(), Budget::new(Some(100)));
        let first = registry.get(&embed_model("a")).unwrap().id;
        let used = registry.get(&embed_model("b")).unwrap();
        // There is room for two; the one that nobody holds goes.
        registry.get(&embed_model("c")).unwrap();
        let names = |registry: &Registry| registry.describe().into_iter().map(|model| model.name).collect::<Vec<_>>();
        assert_eq!(names(&registry), ["b", "c"]);
        let failure = registry.get(&embed_model("huge")).err().unwrap();
        assert_eq!(failure.kind, FailureKind::OutOfMemory);
        assert_eq!(failure.message, "model \"huge\" needs 1000000 bytes of memory, but only 58 are left");
        assert_eq!(names(&registry), ["b"], "idle ones were unloaded in vain");
        assert_eq!(registry.get(&embed_model("b")).unwrap().id, used.id);
        assert_ne!(registry.get(&embed_model("a")).unwrap().id, first);
    }

    #[test]
    fn adapters_share_their_base_and_keep_it() {
        let loader = TestLoader::default();
        let loads = loader.loads.clone();
        let registry = Registry::new(Box::new(loader), Budget::new(None));
        let base = || Some(Box::new(generate_model("base")));
        let one = ModelRef { base: base(), ..generate_model("one") };
        let two = ModelRef { base: base(), ..generate_model("two") };
        let held = registry.get(&one).unwrap();
        registry.get(&two).unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 3);
        // The base is in use as long as one of its adapters is in memory.
        registry.unload_idle(Duration::ZERO);
        let names: Vec<_> = registry.describe().into_iter().map(|model| model.name).collect();
        assert_eq!(names, ["base", "one"]);
        drop(held);
        registry.unload_idle(Duration::ZERO);
        assert_eq!((registry.describe().len(), registry.budget.taken_bytes()), (0, 0));
        // Another base under the same name is another copy of the adapter.
        let first = registry.get(&one).unwrap();
        let mut other = one.clone();
        other.base.as_mut().unwrap().files[0].sha256 = "ff".repeat(32);
        assert_ne!(registry.get(&other).unwrap().id, first.id);
        let chain = ModelRef { base: Some(Box::new(one)), ..generate_model("three") };
        assert_eq!(registry.get(&chain).err().unwrap().kind, FailureKind::InvalidArgument);
    }

    #[test]
    fn models_that_nobody_uses_are_unloaded_after_a_while() {
        let registry = Registry::new(Box::<TestLoader>::default(), Budget::new(None));
        let _used = registry.get(&embed_model("used")).unwrap();
        drop(registry.get(&embed_model("idle")).unwrap());
        registry.unload_idle(Duration::from_secs(60));
        assert_eq!(registry.describe().len(), 2);
        registry.unload_idle(Duration::ZERO);
        assert_eq!(registry.describe()[0].name, "used");
        assert_eq!((registry.describe().len(), registry.budget.taken_bytes()), (1, 42));
    }
}
