//! Harness for tests that need a whole PostgreSQL cluster: several sessions, signals, crashes, a standby.
//!
//! - [`Cluster`]: a throwaway cluster, removed when the test ends, however it ends;
//! - [`account`]: the operating-system user that runs it, as PostgreSQL refuses root;
//! - [`crash`]: ends a cluster without warning, and waits until it is back;
//! - [`data`]: vectors from a seed;
//! - [`disk`]: a small disk, to be filled;
//! - [`http`]: a server for models that run elsewhere;
//! - [`hnsw`]: searches with and without an index, and checks of the index;
//! - [`items`]: a table with such an index;
//! - [`process`]: what `/proc` knows of a process;
//! - [`session`]: sessions that run a statement in the background, and checks of errors;
//! - [`small_hub`]: a hub with models, on the loopback interface.
//!
//! pg_rag must be installed in the PostgreSQL that `PG_CONFIG` names (else the `pg_config` in the path). A test never
//! sleeps for a fixed time to let something happen: it waits for the condition, up to a deadline.

pub mod account;
mod cluster;
pub mod crash;
pub mod data;
pub mod disk;
pub mod hnsw;
pub mod http;
pub mod items;
pub mod process;
pub mod session;
#[path = "../../../src/model/hub/small_hub.rs"]
pub mod small_hub;

pub use cluster::{run, Cluster, ClusterOptions, Stop};

use std::time::{Duration, Instant};

/// How long anything that should happen may take on a busy machine before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// `long` when `PG_RAG_LONG_TESTS=1` asks for thorough runs, else `short`, so that everything takes seconds.
pub fn short_or_long<T>(short: T, long: T) -> T {
    if std::env::var("PG_RAG_LONG_TESTS").is_ok_and(|value| value == "1") {
        long
    } else {
        short
    }
}

/// Waits until `condition` holds. Panics, naming `what`, when it does not within [`PATIENCE`].
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, condition), "still not true after {PATIENCE:?}: {what}");
}

/// Whether `condition` comes to hold within `limit`.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
