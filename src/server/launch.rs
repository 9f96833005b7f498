//! Getting a connection to a running server, starting one if there is none.

use crate::error::{error, Result};
use crate::gucs;
use crate::pg::latch;
use crate::server::connection::{Connection, Greeting};
use crate::server::{paths, supervisor};
use pgrx::PgSqlErrorCode;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// Pause between two attempts to connect while the server starts.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How long a registered supervisor may take to show itself before another one is registered, and how long a slot for it
/// may take to become free.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(2);

/// Returns a connection that has exchanged greetings. Starts the supervisor if none is running and waits for the
/// server up to `pg_rag.server_start_timeout`.
pub fn connect() -> Result<Connection> {
    let deadline = Instant::now() + Duration::from_millis(gucs::server_start_timeout_ms() as u64);
    let (mut registered_at, mut refused_at): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        match Connection::open() {
            Ok(mut connection) => match connection.greet() {
                Ok(Greeting::Welcome) => return Ok(connection),
                Ok(Greeting::Mismatch { restarting: true }) => {}
                Ok(Greeting::Mismatch { restarting: false }) => return Err(stale_library()),
                // The server may have stopped between the connection and the greeting: that is "not running", too.
                Err(failure) if Instant::now() >= deadline => return Err(failure),
                Err(_) => {}
            },
            Err(failure) if failure.kind() == ErrorKind::WouldBlock => {} // more callers than the server accepts at once
            Err(failure) if matches!(failure.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                let waited_enough = registered_at.is_none_or(|at| at.elapsed() > SUPERVISOR_PATIENCE);
                if waited_enough && !supervisor_is_running() {
                    check_binary()?;
                    match supervisor::register_dynamically() {
                        Ok(()) => registered_at = Some(Instant::now()),
                        // All slots may be taken by workers of other callers, which leave soon but for one.
                        Err(_) if refused_at.get_or_insert_with(Instant::now).elapsed() < SUPERVISOR_PATIENCE => {}
                        Err(failure) => return Err(failure),
                    }
                }
            }
            Err(failure) => {
                return Err(error(
                    PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
                    format!("could not connect to the model server: {failure}"),
                ));
            }
        }
        if Instant::now() >= deadline {
            return Err(did_not_start());
        }
        latch::sleep(RETRY_PAUSE);
    }
}

/// Whether some process holds the supervisor's lock.
fn supervisor_is_running() -> bool {
    match File::open(paths::SUPERVISOR_LOCK) {
        // A shared lock is refused only while the supervisor holds its exclusive one; it is released with `file`.
        Ok(file) => matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

/// Tells a missing or unusable program before a worker is started for it.
fn check_binary() -> Result<()> {
    let path = paths::server_binary();
    let problem = match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => "it is not a file".to_owned(),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => "it is not executable".to_owned(),
        Ok(_) => return Ok(()),
        Err(failure) => failure.to_string(),
    };
    Err(error(
        PgSqlErrorCode::ERRCODE_UNDEFINED_FILE,
        format!("could not find the program of the model server \"{}\"", path.display()),
    )
    .set_detail(problem)
    .set_hint("Install it with \"make install\", or set \"pg_rag.server_binary\" in postgresql.conf."))
}

fn did_not_start() -> pgrx::pg_sys::panic::ErrorReport {
    error(
        PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
        format!("model server did not start within {} ms", gucs::server_start_timeout_ms()),
    )
    .set_hint("See the PostgreSQL log for the reason. The time to wait is set by \"pg_rag.server_start_timeout\".")
}

fn stale_library() -> pgrx::pg_sys::panic::ErrorReport {
    error(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "this session has loaded another version of pg_rag than the model server",
    )
    .set_hint("Open a new session. With shared_preload_libraries, restart PostgreSQL.")
}
