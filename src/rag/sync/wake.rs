//! Waking the worker of a database, starting it, and taking turns where there are fewer worker slots than databases.
//!
//! Shared memory of our own needs `shared_preload_libraries`, and a latch needs somebody to tell whose. So the worker has a
//! datagram socket beside the model server's: sending to it tells in one system call whether there is a worker and wakes it.
//! Where nobody listens, the file `pg_rag_sync_<database>` is made, which stays until somebody has done the work, and a worker
//! is registered. A worker serves the oldest file that no other worker has locked. So a slot that a worker leaves is taken
//! over by the next database, and after a crash the supervisor finds what was unfinished.
//!
//! In the order of a start: the worker locks the file, connects, listens, and only then looks at the queue. In the order of
//! an end: it stops to listen, removes the file, and looks at the queue once more. A commit in between is seen either way.

use crate::pg::{backend, transaction};
use pgrx::bgworkers::BackgroundWorkerBuilder;
use pgrx::pg_sys;
use socket2::{Domain, SockAddr, Socket, Type};
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

const FOLDER: &str = "pg_stat_tmp";
const PREFIX: &str = "pg_rag_sync_";

/// A worker that was registered shows itself within this time; until then, this backend registers no other one.
const START_PATIENCE: Duration = Duration::from_secs(1);

fn note_path(database: pg_sys::Oid) -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{PREFIX}{}", database.to_u32()))
}

fn socket_path(database: pg_sys::Oid) -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{PREFIX}{}.sock", database.to_u32()))
}

/// Wakes the worker of this database; starts one if there is none. Never fails and never waits: it runs after a commit.
pub fn wake() {
    if transaction::is_in_recovery() || send() {
        return;
    }
    let path = note_path(backend::database_oid());
    // A worker that was registered takes the file, and removes it when it leaves.
    let is_new = !path.exists();
    if is_new {
        let _ = File::options().create(true).append(true).open(path);
    }
    thread_local! {
        static REGISTERED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    if (is_new || REGISTERED_AT.get().is_none_or(|at| at.elapsed() > START_PATIENCE)) && register() {
        REGISTERED_AT.set(Some(Instant::now()));
    }
}

/// Whether a worker of this database listens; it is awake then.
fn send() -> bool {
    thread_local! {
        static SOCKET: RefCell<Option<Socket>> = const { RefCell::new(None) };
    }
    let Ok(address) = SockAddr::unix(socket_path(backend::database_oid())) else { return false };
    SOCKET.with_borrow_mut(|socket| {
        if socket.is_none() {
            *socket = Socket::new(Domain::UNIX, Type::DGRAM, None).ok();
            if let Some(socket) = socket {
                let _ = socket.set_nonblocking(true);
            }
        }
        match socket.as_ref().map(|socket| socket.send_to(&[1], &address)) {
            Some(Ok(_)) => true,
            // Its buffer is full: it is at work, and will look again.
            Some(Err(failure)) => failure.kind() == ErrorKind::WouldBlock,
            None => false,
        }
    })
}

/// Registers a worker; false if no slot is free.
fn register() -> bool {
    BackgroundWorkerBuilder::new("pg_rag sync worker")
        .set_type("pg_rag sync worker")
        .set_library("pg_rag")
        .set_function("pg_rag_sync_main")
        .enable_spi_access()
        .set_restart_time(Some(Duration::from_secs(1)))
        .load_dynamic()
        .is_ok()
}

/// Registers a worker if some database waits for one: called by the supervisor, now and then.
pub fn start_waiting() {
    if !transaction::is_in_recovery() && somebody_waits() {
        register();
    }
}

/// Whether some database has work that no worker has taken.
pub fn somebody_waits() -> bool {
    notes().iter().any(|(_, path, _)| File::open(path).is_ok_and(|file| file.try_lock_shared().is_ok()))
}

/// Databases that have work, the one that has waited longest first.
fn notes() -> Vec<(SystemTime, PathBuf, pg_sys::Oid)> {
    let Ok(folder) = fs::read_dir(FOLDER) else { return Vec::new() };
    let mut notes: Vec<_> = folder
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let database = entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse::<u32>().ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path(), pg_sys::Oid::from(database)))
        })
        .collect();
    notes.sort_unstable_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    notes
}

/// A database's file, locked: its owner is the worker of that database.
pub struct Note {
    pub database: pg_sys::Oid,
    file: File,
}

impl Note {
    /// The oldest file that nobody has locked.
    pub fn take() -> Option<Self> {
        for (_, path, database) in notes() {
            let Ok(mut file) = File::options().read(true).write(true).open(&path) else { continue };
            if file.try_lock().is_err() {
                continue;
            }
            // A worker has died while it connected: most likely, there is no such database any more.
            let mut content = String::new();
            if file.read_to_string(&mut content).is_err() || !content.is_empty() {
                let _ = fs::remove_file(&path);
                continue;
            }
            return Some(Self { database, file });
        }
        None
    }

    /// Marks the file as long as it is not known whether the database can be connected to.
    pub fn set_connecting(&mut self, connects: bool) {
        let _ = self.file.set_len(0);
        let _ = self.file.seek(SeekFrom::Start(0));
        if connects {
            let _ = self.file.write_all(b"connecting");
        }
    }

    /// Goes to the end of the line, so that another database comes first.
    pub fn stand_back(&mut self) {
        let _ = self.file.set_modified(SystemTime::now());
    }

    /// There is nothing to do any more.
    pub fn remove(&self) {
        let _ = fs::remove_file(note_path(self.database));
    }

    /// There is something to do after all: makes and locks the file again.
    pub fn restore(&mut self) {
        if let Ok(file) = File::options().create(true).truncate(false).write(true).open(note_path(self.database)) {
            let _ = file.try_lock();
            self.file = file;
        }
    }
}

/// Where the worker is woken. Dropping it stops to listen.
pub struct Listener {
    pub socket: Socket,
    path: PathBuf,
}

impl Listener {
    pub fn start(database: pg_sys::Oid) -> std::io::Result<Self> {
        let path = socket_path(database);
        let _ = fs::remove_file(&path);
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        Ok(Self { socket, path })
    }

    /// Forgets that it was woken.
    pub fn drain(&self) {
        let mut bytes = [std::mem::MaybeUninit::<u8>::uninit(); 8];
        while self.socket.recv(&mut bytes).is_ok() {}
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
