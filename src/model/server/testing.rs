//! Small deterministic models in memory, and a client, for the tests of this module.

use super::models::DiskLoader;
use super::runtime::{EmbedModel, GenerateModel, Loader, Needs, RerankModel, Run, Runtime, TextModel};
use super::{Config, Server};
use crate::accelerator::Accelerator;
use crate::compute::Pool;
use crate::decoder::{Abandoned, Step};
use crate::encoder::Interrupted;
use crate::error::{ModelError, Result};
use crate::quantize::Mix;
use pg_rag_protocol::frame::{self, HEADER_BYTES};
use pg_rag_protocol::message::*;
use pg_rag_protocol::{build_id, PROTOCOL_VERSION};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What the test models have been asked to do.
#[derive(Default)]
pub struct Probe {
    /// Steps of all generations.
    pub steps: AtomicUsize,
    /// Texts in each forward pass.
    pub batches: Mutex<Vec<usize>>,
    /// While closed, forward passes of the model "gated" wait.
    gate_closed: Mutex<bool>,
    gate_opened: Condvar,
}

impl Probe {
    pub fn close_gate(&self) {
        *self.gate_closed.lock().unwrap() = true;
    }

    pub fn open_gate(&self) {
        *self.gate_closed.lock().unwrap() = false;
        self.gate_opened.notify_all();
    }
}

#[derive(Default)]
pub struct TestLoader {
    pub loads: Arc<AtomicUsize>,
    pub probe: Arc<Probe>,
}

impl Loader for TestLoader {
    fn needs(&self, model: &ModelRef, context_tokens: Option<usize>, _mix: Option<Mix>) -> Result<Needs> {
        let weights = if model.name.starts_with("huge") { 1_000_000 } else { 42 };
        let context_tokens = context_tokens.unwrap_or(100);
        Ok(Needs { weights, context_tokens, kv_cache: context_tokens as u64, ..Needs::default() })
    }

    fn load(&self, model: &ModelRef) -> Result<Runtime> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        match model.name.as_str() {
            "missing" => return Err(ModelError::Missing(model.path.clone().into())),
            "panics at load" => panic!("as the test wants it"),
            "slow to load" => std::thread::sleep(Duration::from_millis(100)),
            _ => {}
        }
        let bytes = TestModel { name: model.name.clone(), probe: self.probe.clone() };
        Ok(match model.kind {
            ModelKind::Embed => Runtime::Embed(Arc::new(bytes)),
            ModelKind::Rerank => Runtime::Rerank(Arc::new(bytes)),
            ModelKind::Generate => Runtime::Generate(Arc::new(bytes)),
        })
    }

    fn load_adapter(&self, adapter: &ModelRef, _base: &Runtime) -> Result<Runtime> {
        self.load(adapter)
    }
}

/// A token is a byte; the vector of a text is (sum of its tokens, number of its tokens); a generation counts.
struct TestModel {
    name: String,
    probe: Arc<Probe>,
}

impl TextModel for TestModel {
    fn tokenize(&self, text: &str, _add_special: bool) -> Result<TokenizedText> {
        let length = text.len() as u32;
        Ok(TokenizedText {
            ids: text.bytes().map(u32::from).collect(),
            starts: (0..length).collect(),
            ends: (1..=length).collect(),
        })
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String> {
        Ok(ids.iter().filter_map(|id| char::from_u32(*id)).collect())
    }

    fn resident_bytes(&self) -> u64 {
        42
    }
}

impl EmbedModel for TestModel {
    fn dimensions(&self) -> usize {
        2
    }

    fn token_dimensions(&self) -> usize {
        1
    }

    fn prepare_tokens(&self, text: &str) -> Result<(TokenizedText, Vec<String>)> {
        let tokens = self.tokenize(text, true)?;
        Ok((tokens, text.chars().map(String::from).collect()))
    }

    fn prepare(&self, text: &str, _purpose: Purpose) -> Result<Vec<u32>> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn embed_tokens(&self, batch: &[Vec<u32>], _pool: &Pool, _abandoned: Abandoned<'_>) -> Result<Vec<f32>> {
        Ok(batch.iter().flatten().map(|id| *id as f32).collect())
    }

    fn embed(
        &self,
        batch: &[Vec<u32>],
        pool: &Pool,
        abandoned: Abandoned<'_>,
        urgent: Interrupted<'_>,
    ) -> Result<Vec<f32>> {
        if self.name == "kernels" {
            let panics = batch.iter().any(|ids| *ids == b"kernel panic".map(u32::from));
            pool.for_each(64, |chunk| {
                std::hint::black_box((0..20_000).fold(chunk, |a, b| a ^ b));
                assert!(!panics || chunk % 20 != 13, "as the test wants it");
            });
        }
        if self.name == "gated" {
            let mut closed = self.probe.gate_closed.lock().unwrap();
            while *closed {
                closed = self.probe.gate_opened.wait(closed).unwrap();
            }
        }
        // Like a large model that is asked for much, which looks at this before each layer.
        while batch.iter().any(|ids| *ids == b"for ever".map(u32::from)) {
            if abandoned() {
                return Err(ModelError::Cancelled);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let slow = Duration::from_millis(if self.name == "slow" { 10 } else { 0 });
        let goes_on = |_: &&Vec<u32>| {
            std::thread::sleep(slow);
            !urgent()
        };
        let done = 1 + batch[1..].iter().take_while(goes_on).count();
        self.probe.batches.lock().unwrap().push(done);
        if batch.iter().any(|ids| *ids == b"panic".map(u32::from)) {
            panic!("as the test wants it");
        }
        if batch.iter().any(|ids| *ids == b"error".map(u32::from)) {
            return Err(ModelError::InvalidInput("text is \"error\"".into()));
        }
        Ok(batch[..done].iter().flat_map(|ids| vector_of(ids)).collect())
    }
}

/// The score of a pair is the number of bytes that the two have in common at the beginning.
impl RerankModel for TestModel {
    fn prepare(&self, query: &str, passages: &[String]) -> Result<Vec<Vec<u32>>> {
        let pair = |passage: &String| query.bytes().chain([0]).chain(passage.bytes()).map(u32::from).collect();
        Ok(passages.iter().map(pair).collect())
    }

    fn score(&self, batch: &[Vec<u32>], _pool: &Pool, _abandoned: Abandoned<'_>) -> Result<Vec<f32>> {
        let score = |ids: &Vec<u32>| {
            let (query, passage) = ids.split_at(ids.iter().position(|id| *id == 0).unwrap());
            query.iter().zip(&passage[1..]).take_while(|(a, b)| a == b).count() as f32
        };
        self.probe.batches.lock().unwrap().push(batch.len());
        Ok(batch.iter().map(score).collect())
    }
}

fn vector_of(ids: &[u32]) -> [f32; 2] {
    [ids.iter().sum::<u32>() as f32, ids.len() as f32]
}

/// The vector of `text` as the test model computes it.
pub fn expected_vector(text: &str) -> [f32; 2] {
    vector_of(&text.bytes().map(u32::from).collect::<Vec<_>>())
}

impl GenerateModel for TestModel {
    fn prompt_tokens(&self, messages: &[ChatMessage]) -> Result<Vec<u32>> {
        Ok(messages.iter().flat_map(|message| message.content.bytes()).map(u32::from).collect())
    }

    fn check(&self, _params: &GenerateParams) -> Result<()> {
        Ok(())
    }

    fn sequence_bytes(&self, tokens: usize) -> u64 {
        let in_engine = std::thread::current().name() == Some("engine");
        assert!(!in_engine || !ENGINE_PANICS.contains(&(tokens as u32)), "as the test wants it");
        tokens as u64
    }

    fn start(self: Arc<Self>, prompt: Vec<u32>, params: GenerateParams) -> Result<Box<dyn Run>> {
        if prompt.is_empty() {
            return Err(ModelError::InvalidArgument("prompt is empty".into()));
        }
        let usage = Usage { prompt_tokens: prompt.len() as u32, ..Usage::default() };
        Ok(Box::new(Counting {
            model: self,
            usage,
            max_tokens: params.max_tokens,
            prefilled: false,
            text: String::new(),
        }))
    }
}

struct Counting {
    model: Arc<TestModel>,
    usage: Usage,
    max_tokens: u32,
    prefilled: bool,
    text: String,
}

impl Run for Counting {
    fn is_prefilling(&self) -> bool {
        !self.prefilled
    }

    fn step(&mut self, _pool: &Pool, _abandoned: Abandoned<'_>) -> Result<Step> {
        self.model.probe.steps.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_micros(100));
        if !std::mem::replace(&mut self.prefilled, true) {
            let total_tokens = self.usage.prompt_tokens as usize;
            return Ok(Step::Prefilling { done_tokens: total_tokens, total_tokens });
        }
        if self.usage.completion_tokens == self.max_tokens {
            // Like a model that held back a piece which could have become a stop text.
            self.text.push('.');
            return Ok(Step::Finished(FinishReason::Length));
        }
        let piece = format!("{} ", self.usage.completion_tokens);
        self.usage.completion_tokens += 1;
        self.text.push_str(&piece);
        Ok(Step::Token(piece))
    }

    fn text(&self) -> &str {
        &self.text
    }

    fn usage(&self) -> Usage {
        self.usage
    }
}

/// With so many tokens, prompt included, a generation makes the engine panic outside of any model.
pub const ENGINE_PANICS: std::ops::Range<u32> = 666_000..667_000;

/// A role without a limit.
pub const ANYBODY: Caller = Caller { role: 10, max_requests: 0 };

pub fn embed_model(name: &str) -> ModelRef {
    ModelRef {
        name: name.into(),
        kind: ModelKind::Embed,
        path: "/nowhere".into(),
        files: vec![ModelFile { name: "weights".into(), sha256: "00".repeat(32) }],
        options_json: "{}".into(),
        base: None,
        remote: None,
    }
}

pub fn generate_model(name: &str) -> ModelRef {
    ModelRef { kind: ModelKind::Generate, ..embed_model(name) }
}

pub fn rerank_request(query: &str, passages: &[&str]) -> Request {
    Request::Rerank {
        model: ModelRef { kind: ModelKind::Rerank, ..embed_model("common") },
        query: query.into(),
        passages: passages.iter().map(|passage| passage.to_string()).collect(),
        lane: Lane::Interactive,
        caller: ANYBODY,
    }
}

pub fn embed_request(model: &str, texts: &[&str], lane: Lane) -> Request {
    Request::Embed {
        model: embed_model(model),
        texts: texts.iter().map(|text| text.to_string()).collect(),
        purpose: Purpose::Passage,
        lane,
        caller: ANYBODY,
    }
}

pub fn generate_request(max_tokens: u32, stream: bool) -> Request {
    Request::Generate {
        model: generate_model("counter"),
        messages: vec![ChatMessage { role: Role::User, content: "count".into() }],
        params: GenerateParams {
            max_tokens,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            repeat_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            whole_sentences: false,
            json_schema: None,
        },
        stream,
        caller: ANYBODY,
    }
}

/// A fresh folder for one test.
pub fn temporary_folder(test: &str) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let folder = std::env::temp_dir().join(format!("pg_rag_{}_{test}_{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A server in this process, with the test models.
pub struct Running {
    pub folder: PathBuf,
    pub probe: Arc<Probe>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Running {
    pub fn start(test: &str, max_queued: usize) -> Self {
        Self::start_with(test, |config| config.max_queued = max_queued)
    }

    /// With settings other than the defaults.
    pub fn start_with(test: &str, set: impl FnOnce(&mut Config)) -> Self {
        let probe = Arc::new(Probe::default());
        let loader = TestLoader { loads: Arc::default(), probe: probe.clone() };
        Self::start_loader(test, set, Box::new(loader), probe)
    }

    /// With real models.
    pub fn start_real(test: &str) -> Self {
        Self::start_disk(test, None)
    }

    /// With real models on this device.
    pub fn start_disk(test: &str, accelerator: Option<Arc<Accelerator>>) -> Self {
        let loader = DiskLoader { threads: 2, accelerator };
        Self::start_loader(test, |_| {}, Box::new(loader), Arc::default())
    }

    fn start_loader(test: &str, set: impl FnOnce(&mut Config), loader: Box<dyn Loader>, probe: Arc<Probe>) -> Self {
        let folder = temporary_folder(test);
        let executable = folder.join("executable");
        std::fs::write(&executable, "v1").unwrap();
        let mut config = Config::new(folder.join("socket"), executable);
        config.threads = 1;
        config.models_dir = folder.join("models");
        set(&mut config);
        let (server, listener) = Server::bind(config, loader).unwrap();
        let thread = std::thread::spawn(move || server.run(listener));
        Self { folder, probe, thread }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// A connection that has not said hello.
    pub fn stranger(&self) -> Client {
        let stream = UnixStream::connect(self.socket()).unwrap();
        // So that a bug fails the test instead of hanging it.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client { stream }
    }

    pub fn client(&self) -> Client {
        let mut client = self.stranger();
        client.send(&Request::Hello { protocol: PROTOCOL_VERSION, build: build_id() });
        assert!(matches!(client.receive(), Some(Response::Welcome { .. })));
        client
    }

    /// Waits for the server to end by itself.
    pub fn join(self) {
        self.thread.join().unwrap().unwrap();
        std::fs::remove_dir_all(self.folder).unwrap();
    }

    /// Ends the server and waits for it.
    pub fn retire(self) {
        self.client().send(&Request::Retire);
        self.join();
    }
}

pub struct Client {
    pub stream: UnixStream,
}

impl Client {
    pub fn send(&mut self, request: &Request) {
        self.stream.write_all(&frame::encode(request).unwrap()).unwrap();
    }

    /// The next response; `None` when the server has closed the connection.
    pub fn receive(&mut self) -> Option<Response> {
        let mut header = [0; HEADER_BYTES];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer in time"),
            Err(_) => return None,
        }
        let mut payload = vec![0; frame::payload_bytes(header).unwrap()];
        self.stream.read_exact(&mut payload).unwrap();
        Some(frame::decode(&payload).unwrap())
    }

    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(request);
        self.receive().expect("the server closed the connection")
    }

    pub fn status(&mut self) -> ServerStatus {
        match self.ask(&Request::Status) {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for a generation and waits for its first token: from then on the server has it.
    pub fn begin_generation(&mut self, max_tokens: u32) {
        self.send(&generate_request(max_tokens, true));
        let first = self.receive();
        assert!(matches!(first, Some(Response::Token(_))), "{first:?}");
    }

    /// Reads the rest of a generation to its end, which must be one that the server reached.
    pub fn end_generation(&mut self) {
        loop {
            match self.receive() {
                Some(Response::Token(_)) => {}
                Some(Response::Generated { .. }) => return,
                other => panic!("the generation is not answered: {other:?}"),
            }
        }
    }

    /// Asks for the status until it is as wanted.
    pub fn wait_until(&mut self, wanted: impl Fn(&ServerStatus) -> bool) {
        for _ in 0..6000 {
            if wanted(&self.status()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not get there: {:?}", self.status());
    }
}
