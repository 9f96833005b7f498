//! The supervisor: a background worker that runs `pg_rag_server` as its child, restarts it when it dies, and stops
//! it when PostgreSQL stops.
//!
//! It connects to no database and holds no lock but the one that makes it the only one of its cluster. With
//! `shared_preload_libraries = 'pg_rag'` it starts with the cluster; otherwise the first call that needs the server
//! registers it.

use crate::error::{error, Result};
use crate::gucs;
use crate::server::paths;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::prelude::*;
use pgrx::{pg_sys, PgSqlErrorCode};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Shortest and longest pause before a server that died is started again. The pause doubles as long as servers die
/// young, and starts over after one that lived [`LONG_LIFE`].
const MIN_RESTART_PAUSE: Duration = Duration::from_millis(100);
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(30);
const LONG_LIFE: Duration = Duration::from_secs(30);

/// How long the server may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How often the supervisor looks for databases that wait for a sync worker, which found no slot or ended with the cluster.
const SYNC_WORKERS_EVERY: Duration = Duration::from_secs(5);

fn builder() -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new("pg_rag supervisor")
        .set_type("pg_rag supervisor")
        .set_library("pg_rag")
        .set_function("pg_rag_supervisor_main")
        .set_start_time(BgWorkerStartTime::ConsistentState)
}

/// Called from `_PG_init` in the postmaster.
pub fn register_at_server_start() {
    builder().enable_shmem_access(None).set_restart_time(Some(Duration::from_secs(1))).load();
}

/// Called by a backend that found no supervisor. Several backends may do so at the same time: all but one of the
/// workers find the lock taken and leave.
pub fn register_dynamically() -> Result<()> {
    match builder().enable_shmem_access(None).set_restart_time(None).load_dynamic() {
        Ok(_) => Ok(()),
        Err(_) => Err(error(
            PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            "could not start the supervisor of the model server: no free background worker slot",
        )
        .set_hint("Increase \"max_worker_processes\", or add pg_rag to \"shared_preload_libraries\".")),
    }
}

/// Main function of the background worker. Returning ends the worker with exit code 0, after which PostgreSQL does
/// not start it again.
// SAFETY: the name is the extension's own; PostgreSQL looks the function up by it.
#[allow(unsafe_code)]
#[no_mangle]
#[pg_guard]
pub extern "C-unwind" fn pg_rag_supervisor_main(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(
        SignalWakeFlags::SIGTERM | SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGCHLD,
    );
    let Some(_lock) = take_lock() else {
        return; // another supervisor is at work
    };
    let mut pause = MIN_RESTART_PAUSE;
    loop {
        let started = Instant::now();
        match Server::start() {
            Ok(mut server) => match server.watch() {
                End::Stopping => return,
                // The extension was dropped, or the program was replaced: the next call that needs a server
                // registers a supervisor for it.
                End::Exited(status) if status.success() => {
                    log!("pg_rag: model server has ended");
                    return;
                }
                End::Exited(status) => warning!("pg_rag: model server ended unexpectedly: {status}"),
            },
            Err(failure) => {
                warning!("pg_rag: could not start the model server \"{}\": {failure}", paths::server_binary().display())
            }
        }
        if started.elapsed() >= LONG_LIFE {
            pause = MIN_RESTART_PAUSE;
        }
        if !pause_for(pause) {
            return;
        }
        pause = (pause * 2).min(MAX_RESTART_PAUSE);
    }
}

/// Takes the lock that makes this process the only supervisor of the cluster. It is released when the file closes,
/// at the latest with the process; the server does not inherit it.
fn take_lock() -> Option<File> {
    match File::options().create(true).truncate(false).write(true).open(paths::SUPERVISOR_LOCK) {
        Ok(file) => file.try_lock().is_ok().then_some(file),
        Err(failure) => {
            warning!("pg_rag: could not open \"{}\": {failure}", paths::SUPERVISOR_LOCK);
            None
        }
    }
}

/// Waits, and returns false if the worker was told to stop meanwhile.
fn pause_for(pause: Duration) -> bool {
    let end = Instant::now() + pause;
    loop {
        let remaining = end.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return true;
        }
        if !BackgroundWorker::wait_latch(Some(remaining.max(Duration::from_millis(1)))) {
            return false;
        }
    }
}

/// Why [`Server::watch`] returned.
enum End {
    /// The worker was told to stop; the server has been stopped.
    Stopping,
    /// The server ended by itself.
    Exited(ExitStatus),
}

/// A running server process. Dropping it stops the process.
struct Server {
    child: Child,
    /// Our end of a socket pair. The server reads its own end and exits when this one closes.
    _control: UnixStream,
}

impl Server {
    fn start() -> std::io::Result<Self> {
        let (control, servers_end) = UnixStream::pair()?;
        let child = Command::new(paths::server_binary())
            .arg("serve")
            .args(["--socket", paths::SOCKET])
            .args(["--threads", &gucs::threads().to_string()])
            .args(["--device", &gucs::device()])
            .args(["--max-queued", &gucs::max_queued_requests().to_string()])
            .args(["--max-memory-mb", &gucs::max_memory_mb().to_string()])
            .args(["--idle-unload-s", &gucs::idle_unload_s().to_string()])
            // The control connection is standard input: the one descriptor that survives exec without unsafe code.
            .args(["--control-fd", "0"])
            .stdin(Stdio::from(OwnedFd::from(servers_end)))
            // Its own process group: a Ctrl-C at the terminal of a PostgreSQL in the foreground is not for it.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, _control: control })
    }

    /// Returns when the server has ended, or when this worker is told to stop.
    fn watch(&mut self) -> End {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return End::Exited(status),
                Ok(None) => {}
                Err(failure) => {
                    warning!("pg_rag: could not wait for the model server: {failure}");
                    return End::Stopping;
                }
            }
            crate::rag::sync::wake::start_waiting();
            if !BackgroundWorker::wait_latch(Some(SYNC_WORKERS_EVERY)) {
                self.stop();
                return End::Stopping;
            }
            if BackgroundWorker::sighup_received() {
                crate::pg::settings::reload();
            }
        }
    }

    /// Asks the server to stop and kills it if it does not.
    fn stop(&mut self) {
        let Ok(pid) = libc::pid_t::try_from(self.child.id()) else { return };
        crate::pg::backend::terminate(pid);
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}
