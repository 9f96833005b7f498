//! The process that owns the models: connections, scheduling, model registry.
//!
//! Plain threads, no async runtime: per connection one that reads and one that writes (tens to a few hundred
//! connections, mostly idle), one engine thread that starts every forward pass, and the compute pool. All sleep in
//! system calls or on condition variables when there is nothing to do.
//!
//! From the bottom up:
//! - [`failure`], [`process`], [`peer`], [`executable`], [`lifecycle`]: errors, the operating system, start and end;
//! - [`runtime`], `models`: what a model is to the server, and the real ones;
//! - [`memory`], [`registry`]: how many bytes there may be, and the models in them;
//! - [`roles`]: how much each role of the database may ask for at once;
//! - [`reply`]: the way back to a client;
//! - [`queue`], [`company`], [`scheduler`]: what runs next, when, and the thread that runs it;
//! - [`work`], [`quantize`]: long work on models;
//! - [`progress`]: what index builds report to other sessions;
//! - [`devices`]: what there is to compute with;
//! - [`extract`]: reading documents;
//! - [`remote`]: models that run elsewhere;
//! - [`connection`]: the conversation with one client.

mod company;
mod connection;
#[cfg(test)]
mod device_tests;
mod devices;
mod download;
mod executable;
pub mod extract;
mod failure;
#[cfg(test)]
mod fault_tests;
mod lifecycle;
#[cfg(test)]
mod limit_tests;
mod memory;
mod models;
mod peer;
pub mod process;
mod progress;
mod quantize;
#[cfg(test)]
mod quantize_tests;
mod queue;
#[cfg(test)]
mod queue_tests;
mod registry;
mod remote;
#[cfg(test)]
mod remote_tests;
mod reply;
mod roles;
mod runtime;
mod scheduler;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod testing;
mod work;

use crate::accelerator::choice::DeviceChoice;
use crate::compute::Pool;
use crate::error::{ModelError, Result};
use executable::Executable;
use extract::Extractor;
use lifecycle::Lifecycle;
use memory::Budget;
use models::DiskLoader;
use pg_rag_protocol::message::ServerStatus;
use progress::Board;
use registry::Registry;
use remote::Gateway;
use roles::Roles;
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
use work::Workshop;

/// How to run the server.
pub struct Config {
    /// Where the socket is created; relative to the working directory, which is PostgreSQL's data directory.
    pub socket: PathBuf,
    /// Compute threads; 0 for one per core.
    pub threads: usize,
    /// Where models compute.
    pub device: DeviceChoice,
    /// Requests that may wait; more are refused.
    pub max_queued: usize,
    /// Bytes that models and caches may take; None for any number.
    pub max_memory_bytes: Option<u64>,
    /// A model that nobody has used for so long is unloaded; None for never.
    pub idle_unload: Option<Duration>,
    /// Folder that models are written into; like the socket's path.
    pub models_dir: PathBuf,
    /// The file that this process runs.
    pub executable: PathBuf,
}

impl Config {
    /// The defaults.
    pub fn new(socket: PathBuf, executable: PathBuf) -> Self {
        Self {
            socket,
            threads: 0,
            device: DeviceChoice::default(),
            max_queued: DEFAULT_MAX_QUEUED,
            max_memory_bytes: None,
            idle_unload: None,
            models_dir: PathBuf::from(pg_rag_protocol::MODELS_DIR),
            executable,
        }
    }
}

/// How long a server that has nothing more to do goes on refusing requests.
const LINGER: Duration = Duration::from_millis(200);

/// Stack of the thread that unloads models.
const UNLOAD_STACK_BYTES: usize = 256 * 1024;

/// Default of [`Config::max_queued`].
pub const DEFAULT_MAX_QUEUED: usize = 256;

/// Serves until the server is retired, and returns once running requests are answered.
///
/// A socket file left behind at [`Config::socket`] is replaced: the caller holds a lock that makes this process the
/// only one that serves there (the supervisor takes it before it starts the server).
///
/// Errors: `InvalidArgument` for a device that cannot be used; `Internal` for a socket that cannot be listened on.
pub fn serve(config: Config) -> Result<()> {
    let loader = DiskLoader { threads: Pool::count(config.threads), accelerator: config.device.open()? };
    let (server, listener) = Server::bind(config, Box::new(loader))?;
    server.run(listener)
}

/// What all connections share.
struct Server {
    socket: PathBuf,
    executable: Executable,
    lifecycle: Arc<Lifecycle>,
    budget: Arc<Budget>,
    registry: Arc<Registry>,
    roles: Arc<Roles>,
    idle_unload: Option<Duration>,
    scheduler: Scheduler,
    extractor: Arc<Extractor>,
    gateway: Arc<Gateway>,
    progress: Arc<Board>,
    workshop: Arc<Workshop>,
    connections: AtomicU32,
    started: Instant,
}

impl Server {
    fn bind(config: Config, loader: Box<dyn Loader>) -> Result<(Arc<Self>, UnixListener)> {
        let listener = listen(&config.socket).map_err(|error| {
            ModelError::Internal(format!("could not listen on socket \"{}\": {error}", config.socket.display()))
        })?;
        let budget = Budget::new(config.max_memory_bytes);
        let registry = Arc::new(Registry::new(loader, budget.clone()));
        let scheduler = Scheduler::start(registry.clone(), Pool::new(config.threads)?, config.max_queued)?;
        let workshop = Workshop::new(config.models_dir, scheduler.threads());
        // Half of the threads: reading documents may take seconds, and embedding them goes on beside it.
        let extractor = Extractor::new(own_program(&config.executable), budget.clone(), scheduler.threads() / 2);
        let server = Self {
            socket: config.socket,
            executable: Executable::at(config.executable),
            lifecycle: Arc::default(),
            budget,
            registry,
            roles: Arc::default(),
            idle_unload: config.idle_unload,
            scheduler,
            extractor,
            gateway: Gateway::new(config.max_queued),
            progress: Arc::default(),
            workshop,
            connections: AtomicU32::new(0),
            started: Instant::now(),
        };
        Ok((Arc::new(server), listener))
    }

    fn run(self: Arc<Self>, listener: UnixListener) -> Result<()> {
        let server = self.clone();
        std::thread::Builder::new()
            .name("accept".into())
            .spawn(move || process::vital("accept", || server.accept(&listener)))
            .map_err(|error| ModelError::Internal(format!("could not start a thread: {error}")))?;
        if let Some(idle_unload) = self.idle_unload {
            let registry = self.registry.clone();
            std::thread::Builder::new()
                .name("unload".into())
                .stack_size(UNLOAD_STACK_BYTES)
                .spawn(move || process::vital("unload", || unload_idle_models(&registry, idle_unload)))
                .map_err(|error| ModelError::Internal(format!("could not start a thread: {error}")))?;
        }
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
            queued: (queued + self.gateway.waiting()) as u32,
            generating,
            resident_bytes: process::resident_bytes(),
            memory_bytes: self.budget.taken_bytes(),
            max_memory_bytes: self.budget.limit_bytes(),
            models: self.registry.describe(),
            works: self.workshop.progress(),
        }
    }
}

/// The program that this process runs, even if its file has been replaced since.
fn own_program(executable: &std::path::Path) -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() {
        own
    } else {
        executable.to_owned()
    }
}

/// Body of the thread that unloads models which nobody uses, a little late at most. It ends with the process.
fn unload_idle_models(registry: &Registry, idle_unload: Duration) {
    let pause = (idle_unload / 8).clamp(Duration::from_millis(100), Duration::from_secs(10));
    loop {
        std::thread::sleep(pause);
        registry.unload_idle(idle_unload);
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
