//! The process that owns the models: connections, scheduling, model registry.
//!
//! Plain threads, no async runtime: per connection one that reads and one that writes (tens to a few hundred
//! connections, mostly idle), one engine thread that starts every forward pass, and the compute pool. All sleep in
//! system calls or on condition variables when there is nothing to do.
//!
//! From the bottom up:
//! - [`failure`], [`process`], [`peer`], [`executable`], [`lifecycle`]: errors, the operating system, start and end;
//! - [`runtime`], `models`: what a model is to the server, and the real ones;
//! - [`registry`]: the models in memory;
//! - [`reply`]: the way back to a client;
//! - [`queue`], [`scheduler`]: what runs next, and the thread that runs it;
//! - [`progress`]: what index builds report to other sessions;
//! - [`html`]: HTML to Markdown;
//! - [`connection`]: the conversation with one client.

mod connection;
mod executable;
mod failure;
pub mod html;
mod lifecycle;
mod models;
mod peer;
pub mod process;
mod progress;
mod queue;
#[cfg(test)]
mod queue_tests;
mod registry;
mod reply;
mod runtime;
mod scheduler;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod testing;

use crate::compute::Pool;
use crate::error::{ModelError, Result};
use executable::Executable;
use lifecycle::Lifecycle;
use models::DiskLoader;
use pg_rag_protocol::message::ServerStatus;
use progress::Board;
use registry::Registry;
use runtime::Loader;
use scheduler::Scheduler;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How to run the server.
pub struct Config {
    /// Where the socket is created; relative to the working directory, which is PostgreSQL's data directory.
    pub socket: PathBuf,
    /// Compute threads; 0 for one per core.
    pub threads: usize,
    /// Requests that may wait; more are refused.
    pub max_queued: usize,
    /// The file that this process runs.
    pub executable: PathBuf,
}

/// How long a server that has nothing more to do goes on refusing requests.
const LINGER: Duration = Duration::from_millis(200);

/// Default of [`Config::max_queued`].
pub const DEFAULT_MAX_QUEUED: usize = 256;

/// Serves until the server is retired, and returns once running requests are answered.
///
/// A socket file left behind at [`Config::socket`] is replaced: the caller holds a lock that makes this process the
/// only one that serves there (the supervisor takes it before it starts the server).
pub fn serve(config: Config) -> Result<()> {
    let (server, listener) = Server::bind(config, Box::new(DiskLoader))?;
    server.run(listener)
}

/// What all connections share.
struct Server {
    socket: PathBuf,
    executable: Executable,
    lifecycle: Arc<Lifecycle>,
    registry: Arc<Registry>,
    scheduler: Scheduler,
    progress: Arc<Board>,
    connections: AtomicU32,
    started: Instant,
}

impl Server {
    fn bind(config: Config, loader: Box<dyn Loader>) -> Result<(Arc<Self>, UnixListener)> {
        let listener = listen(&config.socket).map_err(|error| {
            ModelError::Internal(format!("could not listen on socket \"{}\": {error}", config.socket.display()))
        })?;
        let registry = Arc::new(Registry::new(loader));
        let scheduler = Scheduler::start(registry.clone(), Pool::new(config.threads)?, config.max_queued)?;
        let server = Self {
            socket: config.socket,
            executable: Executable::at(config.executable),
            lifecycle: Arc::default(),
            registry,
            scheduler,
            progress: Arc::default(),
            connections: AtomicU32::new(0),
            started: Instant::now(),
        };
        Ok((Arc::new(server), listener))
    }

    fn run(self: Arc<Self>, listener: UnixListener) -> Result<()> {
        let server = self.clone();
        std::thread::Builder::new()
            .name("accept".into())
            .spawn(move || server.accept(&listener))
            .map_err(|error| ModelError::Internal(format!("could not start a thread: {error}")))?;
        self.lifecycle.wait_for_stop();
        // A last connection wakes the accepting thread, which then closes the listener. Afterwards a client that
        // looks for the server finds no socket and has it started anew.
        let _ = UnixStream::connect(&self.socket);
        let _ = fs::remove_file(&self.socket);
        self.lifecycle.wait_until_drained();
        // Requests that were on their way are refused with a reason that makes their clients look for the successor;
        // if the process ended at once, they would see a broken connection instead.
        std::thread::sleep(LINGER);
        self.lifecycle.wait_until_drained();
        self.scheduler.stop();
        Ok(())
    }

    fn accept(self: Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.lifecycle.is_stopping() {
                return;
            }
            let Ok(stream) = stream else {
                // Out of descriptors or memory: waiting is all that can be done, and better than spinning.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            let server = self.clone();
            let thread = std::thread::Builder::new().name("connection".into());
            // Where no thread can be started the stream is dropped, and the client sees a closed connection.
            let _ = thread.spawn(move || {
                server.connections.fetch_add(1, Ordering::Relaxed);
                connection::serve(&server, stream);
                server.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    fn status(&self) -> ServerStatus {
        let (queued, generating) = self.scheduler.load();
        ServerStatus {
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            threads: self.scheduler.threads() as u32,
            connections: self.connections.load(Ordering::Relaxed),
            queued: queued as u32,
            generating,
            resident_bytes: process::resident_bytes(),
            models: self.registry.describe(),
        }
    }
}

/// Listens at `socket`, for the own user only.
fn listen(socket: &std::path::Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(socket)?;
    // The process' umask has seen to it already (`process::arrange`); peers of other users are refused besides.
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
