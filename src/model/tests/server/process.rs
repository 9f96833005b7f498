//! The server process of a test, and what it is asked: harness of this folder.

use pg_rag_model::source;
use pg_rag_protocol::frame::{self, HEADER_BYTES};
use pg_rag_protocol::message::*;
use pg_rag_protocol::{build_id, PROTOCOL_VERSION};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

pub const SERVER: &str = env!("CARGO_BIN_EXE_pg_rag_server");

fn model(kind: ModelKind, name: &str, place: &str) -> ModelRef {
    let models = std::env::var_os("PG_RAG_MODELS").unwrap_or_else(|| "/usr/local/share/pg_rag/models".into());
    let path = Path::new(&models).join(place);
    assert!(path.exists(), "model {} is missing; `make models` puts it there", path.display());
    let files = source::inspect(kind, &path).unwrap().files;
    ModelRef {
        name: name.into(),
        kind,
        path: path.to_str().unwrap().into(),
        files,
        options_json: "{}".into(),
        base: None,
        remote: None,
    }
}

pub fn embed_model() -> ModelRef {
    static MODEL: OnceLock<ModelRef> = OnceLock::new();
    MODEL.get_or_init(|| model(ModelKind::Embed, "all-MiniLM-L6-v2", "all-MiniLM-L6-v2")).clone()
}

pub fn generate_model() -> ModelRef {
    static MODEL: OnceLock<ModelRef> = OnceLock::new();
    let place = "SmolLM2-135M-Instruct/SmolLM2-135M-Instruct.Q4_1.gguf";
    MODEL.get_or_init(|| model(ModelKind::Generate, "SmolLM2-135M-Instruct", place)).clone()
}

pub struct Server {
    pub child: Child,
    pub control: Option<UnixStream>,
    pub folder: PathBuf,
}

impl Server {
    pub fn start(test: &str) -> Self {
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

    /// A connection, as soon as the server listens.
    pub fn connect(&mut self) -> Client {
        let door = self.door();
        for _ in 0..6000 {
            if let Some(client) = door.try_connect() {
                return client;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the server has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not listen");
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn door(&self) -> Door {
        Door { socket: self.folder.join("socket"), pid: self.child.id() }
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().count()
    }

    /// Bytes of a line of `/proc/PID/status` that counts kilobytes, such as `VmHWM`.
    pub fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Processor time that the process has used, in clock ticks.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// The process uses no processor time any more.
    pub fn expect_idle(&self) {
        let idle = (0..60).any(|_| {
            let before = self.cpu_ticks();
            std::thread::sleep(Duration::from_millis(500));
            self.cpu_ticks() <= before + 1
        });
        assert!(idle, "the server computes without work");
    }
}

/// Where a server listens; for threads of their own.
#[derive(Clone)]
pub struct Door {
    socket: PathBuf,
    pid: u32,
}

impl Door {
    pub fn connect(&self) -> Client {
        self.try_connect().expect("the server listens")
    }

    fn try_connect(&self) -> Option<Client> {
        let stream = UnixStream::connect(&self.socket).ok()?;
        // So that a bug fails the test instead of hanging it.
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let mut client = Client { stream };
        let hello = Request::Hello { protocol: PROTOCOL_VERSION, build: build_id() };
        assert_eq!(client.ask(&hello), Response::Welcome { pid: self.pid });
        Some(client)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub struct Client {
    stream: UnixStream,
}

impl Client {
    pub fn send(&mut self, request: &Request) {
        self.stream.write_all(&frame::encode(request).unwrap()).unwrap();
    }

    pub fn receive(&mut self) -> Response {
        self.receive_or_end().expect("the server closed the connection")
    }

    /// The next response; `None` when the connection ends instead.
    pub fn receive_or_end(&mut self) -> Option<Response> {
        let mut header = [0; HEADER_BYTES];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer in time"),
            Err(_) => return None,
        }
        let mut payload = vec![0; frame::payload_bytes(header).unwrap()];
        self.stream.read_exact(&mut payload).unwrap();
        Some(frame::decode(&payload).unwrap())
    }

    /// The final response; the pieces of a stream must add up to its text.
    pub fn answer(&mut self, request: &Request) -> Response {
        let streams = matches!(request, Request::Generate { stream: true, .. });
        self.send(request);
        let mut streamed = String::new();
        loop {
            match self.receive() {
                Response::Token(piece) => streamed.push_str(&piece),
                Response::Generated { text, .. } if streams && text != streamed => {
                    panic!("{text:?} was sent as {streamed:?}")
                }
                response => return response,
            }
        }
    }

    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(request);
        self.receive()
    }

    pub fn embed(&mut self, texts: &[&str], lane: Lane) -> Vec<Vec<f32>> {
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

    pub fn status(&mut self) -> ServerStatus {
        match self.ask(&Request::Status) {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

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

pub const ANYBODY: Caller = Caller { role: 10, max_requests: 0 };

pub fn generate(question: &str, max_tokens: u32) -> Request {
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
