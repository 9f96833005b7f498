//! The real server process with the two real models, over its socket.
//!
//! The models are looked for in `$PG_RAG_MODELS`, by default /usr/local/share/pg_rag/models; without them the tests fail.

use pg_rag_model::source;
use pg_rag_protocol::frame::{self, HEADER_BYTES};
use pg_rag_protocol::message::*;
use pg_rag_protocol::{build_id, PROTOCOL_VERSION};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

const SERVER: &str = env!("CARGO_BIN_EXE_pg_rag_server");

fn model(kind: ModelKind, name: &str, place: &str) -> ModelRef {
    let models = std::env::var_os("PG_RAG_MODELS").unwrap_or_else(|| "/usr/local/share/pg_rag/models".into());
    let path = Path::new(&models).join(place);
    assert!(path.exists(), "model {} is missing; `make models` puts it there", path.display());
    let files = source::inspect(kind, &path).unwrap().files;
    ModelRef { name: name.into(), kind, path: path.to_str().unwrap().into(), files, options_json: "{}".into() }
}

fn embed_model() -> ModelRef {
    static MODEL: OnceLock<ModelRef> = OnceLock::new();
    MODEL.get_or_init(|| model(ModelKind::Embed, "all-MiniLM-L6-v2", "all-MiniLM-L6-v2")).clone()
}

fn generate_model() -> ModelRef {
    static MODEL: OnceLock<ModelRef> = OnceLock::new();
    let place = "SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf";
    MODEL.get_or_init(|| model(ModelKind::Generate, "SmolLM2-135M-Instruct", place)).clone()
}

struct Server {
    child: Child,
    control: Option<UnixStream>,
    folder: PathBuf,
}

impl Server {
    fn start(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pg_rag_server_{test}_{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (control, servers_end) = UnixStream::pair().unwrap();
        let child = Command::new(SERVER)
            .args(["serve", "--socket", "socket", "--control-fd", "0"])
            .current_dir(&folder)
            .stdin(Stdio::from(OwnedFd::from(servers_end)))
            .spawn()
            .unwrap();
        Self { child, control: Some(control), folder }
    }

    fn connect(&mut self) -> Client {
        for _ in 0..6000 {
            if let Ok(stream) = UnixStream::connect(self.folder.join("socket")) {
                stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
                let mut client = Client { stream };
                let hello = Request::Hello { protocol: PROTOCOL_VERSION, build: build_id() };
                assert_eq!(client.ask(&hello), Response::Welcome { pid: self.child.id() });
                return client;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the server has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not listen");
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Client {
    stream: UnixStream,
}

impl Client {
    fn send(&mut self, request: &Request) {
        self.stream.write_all(&frame::encode(request).unwrap()).unwrap();
    }

    fn receive(&mut self) -> Response {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).unwrap();
        let mut payload = vec![0; frame::payload_bytes(header).unwrap()];
        self.stream.read_exact(&mut payload).unwrap();
        frame::decode(&payload).unwrap()
    }

    fn ask(&mut self, request: &Request) -> Response {
        self.send(request);
        self.receive()
    }

    fn embed(&mut self, texts: &[&str], lane: Lane) -> Vec<Vec<f32>> {
        let texts = texts.iter().map(|text| text.to_string()).collect();
        match self.ask(&Request::Embed {
            model: embed_model(),
            texts,
            purpose: Purpose::Passage,
            lane,
            caller: ANYBODY,
        }) {
            Response::Embeddings { dimensions, values, .. } => {
                values.chunks(dimensions as usize).map(<[f32]>::to_vec).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn status(&mut self) -> ServerStatus {
        match self.ask(&Request::Status) {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn wait_until(&mut self, wanted: impl Fn(&ServerStatus) -> bool) {
        for _ in 0..6000 {
            if wanted(&self.status()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not get there: {:?}", self.status());
    }
}

const ANYBODY: Caller = Caller { role: 10, max_requests: 0 };

fn generate(question: &str, max_tokens: u32) -> Request {
    Request::Generate {
        model: generate_model(),
        messages: vec![ChatMessage { role: Role::User, content: question.into() }],
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
        stream: true,
        caller: ANYBODY,
    }
}

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[test]
fn embeds_alike_alone_and_in_a_batch_and_close_texts_are_close() {
    let mut server = Server::start("embed");
    let mut client = server.connect();
    let long = "A partial index is built over a subset of a table. ".repeat(30);
    let texts =
        ["How do I create a partial index?", "An index over some rows of a table", "The cat sat on the mat", &long, ""];
    let batch = client.embed(&texts, Lane::Bulk);
    assert_eq!(batch.len(), texts.len());
    for (text, vector) in texts.iter().zip(&batch) {
        let single = client.embed(&[text], Lane::Interactive);
        assert!(cosine(&single[0], vector) > 0.99999, "{text}");
    }
    assert!(cosine(&batch[0], &batch[1]) > cosine(&batch[0], &batch[2]) + 0.2);
}

#[test]
fn generates_beside_embeddings_with_one_copy_of_each_model() {
    let mut server = Server::start("generate");
    let mut observer = server.connect();
    let answers: Vec<String> = std::thread::scope(|scope| {
        let generations: Vec<_> = (0..3)
            .map(|_| {
                let mut client = server.connect();
                scope.spawn(move || {
                    client.send(&generate("Name three colors.", 24));
                    let mut streamed = String::new();
                    loop {
                        match client.receive() {
                            Response::Token(piece) => streamed.push_str(&piece),
                            Response::Generated { text, usage, .. } => {
                                assert_eq!(text, streamed);
                                assert!(usage.prompt_tokens > 0 && usage.completion_tokens <= 24);
                                return text;
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                })
            })
            .collect();
        let mut client = server.connect();
        scope.spawn(move || {
            for _ in 0..5 {
                assert_eq!(client.embed(&["text"; 20], Lane::Bulk).len(), 20);
            }
        });
        generations.into_iter().map(|generation| generation.join().unwrap()).collect()
    });
    assert!(answers[0].contains("Blue"), "{:?}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "greedy output is deterministic: {answers:?}");
    let status = observer.status();
    let names: Vec<&str> = status.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["SmolLM2-135M-Instruct", "all-MiniLM-L6-v2"]);
    assert_eq!((status.models[0].requests, status.models[1].requests), (3, 5));
}

#[test]
fn a_closed_connection_stops_its_generation() {
    let mut server = Server::start("cancel");
    let mut observer = server.connect();
    let mut client = server.connect();
    client.send(&generate("Write a very long story about a database.", 4000));
    assert!(matches!(client.receive(), Response::Token(_)));
    assert_eq!(observer.status().generating, 1);
    drop(client);
    observer.wait_until(|status| status.generating == 0);
}

#[test]
fn a_file_that_is_not_the_registered_one_is_refused() {
    let mut server = Server::start("changed");
    let mut client = server.connect();
    let mut changed = embed_model();
    changed.files[0].sha256 = "00".repeat(32);
    match client.ask(&Request::Load { model: changed }) {
        Response::Failed(failure) => assert_eq!(failure.kind, FailureKind::ModelChanged),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.ask(&Request::Load { model: embed_model() }), Response::Done);
}

#[test]
fn the_process_ends_with_its_supervisor_and_when_retired() {
    let mut server = Server::start("supervisor");
    let mut client = server.connect();
    client.send(&generate("Count to one thousand.", 1000));
    assert!(matches!(client.receive(), Response::Token(_)));
    server.control = None;
    assert!(server.wait().success());

    let mut server = Server::start("retired");
    server.connect().send(&Request::Retire);
    assert!(server.wait().success());
    assert!(!server.folder.join("socket").exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let mut server = Server::start("stale");
    server.connect();
    server.child.kill().unwrap();
    server.wait();
    assert!(server.folder.join("socket").exists());
    let (control, servers_end) = UnixStream::pair().unwrap();
    server.control = Some(control);
    server.child = Command::new(SERVER)
        .args(["serve", "--socket", "socket", "--threads", "1", "--control-fd", "0"])
        .current_dir(&server.folder)
        .stdin(Stdio::from(OwnedFd::from(servers_end)))
        .spawn()
        .unwrap();
    assert_eq!(server.connect().status().threads, 1);
}

#[test]
fn commands_for_people_print_or_explain() {
    let run = |arguments: &[&str]| Command::new(SERVER).args(arguments).output().unwrap();
    let version = run(&["--version"]);
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("pg_rag_server "));
    let inspected = run(&["inspect", "embed", &embed_model().path]);
    let info: ModelInfo = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!((info.dimensions, info.architecture.as_str()), (384, "bert"));
    for wrong in [&["serve"][..], &["serve", "--socket"], &["fetch", "--repo", "a/b"], &["inspect", "x", "y"], &[]] {
        let output = run(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("usage:"));
    }
    let missing = run(&["inspect", "embed", "/nonexistent"]);
    assert_eq!(missing.status.code(), Some(1));
}
