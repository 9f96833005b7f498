//! Panics in a server process of its own: this test program, started again as the server, with models that panic.
//!
//! In a kernel, on whatever compute thread: the request fails, everybody else goes on. On the engine's thread outside of
//! any model: the process ends, because nobody would compute any more; its clients see the end of their connections, and
//! the supervisor starts the next one.

use super::process::PANICKED;
use super::testing::*;
use super::{Config, Server};
use pg_rag_protocol::message::*;
use pg_rag_protocol::{build_id, PROTOCOL_VERSION};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Tells the test below that it is to be the server, and in which folder.
const FOLDER: &str = "PG_RAG_FAULT_TEST_FOLDER";

#[test]
#[ignore = "the server process of the other tests"]
fn serve() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let mut config = Config::new(folder.join("socket"), std::env::current_exe().unwrap());
    config.threads = 3;
    let (server, listener) = Server::bind(config, Box::new(TestLoader::default())).unwrap();
    server.run(listener).unwrap();
}

struct Process {
    child: Child,
    folder: PathBuf,
}

impl Process {
    fn start(folder: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["server::fault_tests::serve", "--exact", "--ignored", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, folder: folder.to_owned() }
    }

    fn connect(&mut self) -> Client {
        for _ in 0..6000 {
            if let Ok(stream) = UnixStream::connect(self.folder.join("socket")) {
                stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                let mut client = Client { stream };
                client.send(&Request::Hello { protocol: PROTOCOL_VERSION, build: build_id() });
                assert_eq!(client.receive(), Some(Response::Welcome { pid: self.child.id() }));
                return client;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the server has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not listen");
    }

    fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn vector(response: Response) -> Vec<f32> {
    match response {
        Response::Embeddings { values, .. } => values,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_in_a_kernel_fails_its_request_and_leaves_no_thread_spinning() {
    let folder = temporary_folder("kernel_panic");
    let mut process = Process::start(&folder);
    let (mut client, mut other, mut generating) = (process.connect(), process.connect(), process.connect());
    generating.begin_generation(1_000_000);
    for round in 0..30 {
        let text = format!("round {round}");
        other.send(&embed_request("kernels", &[&text], Lane::Interactive));
        match client.ask(&embed_request("kernels", &["kernel panic"], Lane::Interactive)) {
            Response::Failed(failure) => {
                assert_eq!(failure.kind, FailureKind::Internal);
                assert!(failure.message.contains("panicked"), "{}", failure.message);
            }
            response => panic!("{response:?}"),
        }
        assert_eq!(vector(other.receive().unwrap()), expected_vector(&text));
        assert_eq!(vector(client.ask(&embed_request("kernels", &[&text], Lane::Bulk))), expected_vector(&text));
    }
    assert_eq!(client.status().generating, 1, "the generation goes on");
    drop(generating);
    client.wait_until(|status| status.generating == 0);
    let idle = (0..60).any(|_| {
        let before = process.cpu_ticks();
        std::thread::sleep(Duration::from_millis(500));
        process.cpu_ticks() <= before + 1
    });
    assert!(idle, "compute threads spin without work");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_panic_of_the_engine_ends_the_process_and_the_next_one_serves() {
    let folder = temporary_folder("engine_panic");
    let mut process = Process::start(&folder);
    let (mut client, mut generating, mut idle) = (process.connect(), process.connect(), process.connect());
    generating.begin_generation(1_000_000);
    client.send(&generate_request(ENGINE_PANICS.start, false));
    while let Some(response) = client.receive() {
        // The ticket is answered while the thread unwinds, if that is faster than the end of the process.
        assert!(
            matches!(&response, Response::Failed(failure) if failure.kind == FailureKind::Internal),
            "{response:?}"
        );
    }
    while let Some(response) = generating.receive() {
        assert!(!matches!(response, Response::Generated { .. }), "{response:?}");
    }
    assert_eq!(idle.receive(), None);
    assert_eq!(process.child.wait().unwrap().code(), Some(PANICKED));

    // What the supervisor does then; the socket's file is still there.
    let mut successor = Process::start(&folder);
    let mut client = loop {
        // Until the successor has replaced the socket, nobody listens at the old one.
        if UnixStream::connect(folder.join("socket")).is_ok() {
            break successor.connect();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(vector(client.ask(&embed_request("kernels", &["text"], Lane::Bulk))), expected_vector("text"));
    std::fs::remove_dir_all(folder).unwrap();
}
