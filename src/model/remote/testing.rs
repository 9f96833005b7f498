//! A small HTTP server on loopback for tests, which does what a test tells it to, good or bad.
//!
//! The tests of clusters include this file, too.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// `POST /v1/embeddings`
    pub line: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub at: Instant,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What is done with a connection after a request.
#[derive(Clone, Debug)]
pub enum Act {
    Send(Vec<u8>),
    /// Nothing, for so long or until the client has closed the connection.
    Wait(Duration),
    /// The bytes again and again, with a pause after each time, until the client has closed the connection.
    Endless(Vec<u8>, Duration),
    /// Ends the connection in a way that the other side takes for an error.
    Reset,
    /// Ends the connection in order.
    Close,
}

/// A whole answer; the connection stays open.
pub fn answer(status: u16, headers: &str, body: &str) -> Vec<Act> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Some Reason\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    vec![Act::Send(head.into_bytes())]
}

pub fn json(body: &str) -> Vec<Act> {
    answer(200, "Content-Type: application/json\r\n", body)
}

/// The head of an answer whose body is what comes until the connection ends.
pub fn head(content_type: &str) -> Act {
    Act::Send(format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\n\r\n").into_bytes())
}

type Behaviour = dyn Fn(&Received, usize) -> Vec<Act> + Send + Sync;

pub struct TestServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    behaviour: Box<Behaviour>,
    received: Mutex<Vec<Received>>,
    /// Connections that the client has closed while the server was waiting or sending without end.
    given_up: Mutex<usize>,
    stopping: AtomicBool,
}

impl TestServer {
    /// Does for each request what `behaviour` says, which is told how many came before.
    pub fn start(behaviour: impl Fn(&Received, usize) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            behaviour: Box::new(behaviour),
            received: Mutex::default(),
            given_up: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let shared = accepting.clone();
                if let Ok(stream) = stream {
                    std::thread::spawn(move || shared.converse(stream));
                }
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// Always the same.
    pub fn always(acts: Vec<Act>) -> Self {
        Self::start(move |_, _| acts.clone())
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().expect("no thread panics with it").clone()
    }

    /// How often a client has closed a connection that was still being answered.
    pub fn given_up(&self) -> usize {
        *self.shared.given_up.lock().expect("no thread panics with it")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn converse(&self, mut stream: TcpStream) {
        while let Some(request) = read_request(&mut stream) {
            let before = {
                let mut received = self.received.lock().expect("no thread panics with it");
                received.push(request.clone());
                received.len() - 1
            };
            for act in (self.behaviour)(&request, before) {
                if !self.perform(&mut stream, act) {
                    return;
                }
            }
        }
    }

    /// Whether the connection goes on.
    fn perform(&self, stream: &mut TcpStream, act: Act) -> bool {
        match act {
            Act::Send(bytes) => stream.write_all(&bytes).is_ok(),
            Act::Wait(time) => {
                let until = Instant::now() + time;
                while Instant::now() < until && !self.stopping.load(Ordering::SeqCst) {
                    if is_closed(stream) {
                        *self.given_up.lock().expect("no thread panics with it") += 1;
                        return false;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                true
            }
            Act::Endless(bytes, pause) => {
                while !self.stopping.load(Ordering::SeqCst) {
                    if is_closed(stream) || stream.write_all(&bytes).is_err() {
                        *self.given_up.lock().expect("no thread panics with it") += 1;
                        return false;
                    }
                    std::thread::sleep(pause);
                }
                false
            }
            Act::Reset => {
                let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
                false
            }
            Act::Close => {
                let _ = stream.shutdown(Shutdown::Both);
                false
            }
        }
    }
}

/// Whether the other side has closed its end.
fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let _ = stream.set_nonblocking(true);
    let closed = match stream.peek(&mut byte) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    let _ = stream.set_nonblocking(false);
    closed
}

fn read_request(stream: &mut TcpStream) -> Option<Received> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(Received { line, headers, body: String::from_utf8(body).ok()?, at: Instant::now() })
}
