//! How an index follows its table: triggers note which rows change, a background worker brings the index up to date.
//!
//! # Modes
//!
//! - `async`: triggers note the keys of changed rows; the worker of the database does the rest soon after the commit.
//! - `immediate`: the writer's statement cuts and embeds its own rows, and fails if that fails.
//! - `manual`: no triggers; `rag_refresh` compares the whole table.
//!
//! # What a row goes through (`async`)
//!
//! 1. *Noted.* At the end of a statement, [`capture`] reads the transition tables and keeps the keys of rows whose text,
//!    template columns or key changed in the backend's memory; at commit they are appended to `rag.change`, some hundred keys
//!    in a row. That table has no index: a writer waits for nobody and gets no serialization failure. A key that is noted
//!    although its change was rolled back to a savepoint costs a comparison and nothing else.
//! 2. *Woken.* After the commit, [`wake`] sends a datagram to the worker of the database, or registers one.
//! 3. *Queued.* The worker moves keys from `rag.change` to `rag.queue`, one entry for each index and key; a key that is there
//!    already gets a higher version and starts over.
//! 4. *Claimed.* A short transaction sets `due_at` of some entries to the end of a lease and counts an attempt.
//! 5. *Read.* A short transaction, as the index' owner, reads the rows and the vectors that their chunks have.
//! 6. *Cut and embedded*, outside of any transaction: no snapshot is held while the models work.
//! 7. *Stored.* A transaction deletes the entry if its version is still that of the claim, and only then replaces the chunks.
//!    A change that is committed between 5 and 7 is in `rag.change` and comes later. Where the index has summaries that are not
//!    written yet, the entry stays for [`summaries`], which come after all texts.
//!    While the models work on one batch, the one before it is stored and the one after it is read.
//! 8. *Failed.* A batch that fails is halved until the rows are known that fail. Their entries get the error and a pause that
//!    grows; after [`queue::MAX_ATTEMPTS`] they stay as `failed` until the row changes or `rag_retry` is called. What is
//!    nobody's fault (no model, no server) puts the whole index to sleep for a while and counts against no row.
//!
//! # Sweeps
//!
//! What no trigger sees (rows from before the index, a partition that comes or goes, TRUNCATE) asks for a sweep: the worker
//! walks the table in the order of its key and queues rows whose hash is not in the index, then queues chunks without a row.
//! The position is in `rag.sync`, so a sweep goes on where a crash left it.
//!
//! # Locks
//!
//! - `rag.change`, `rag.queue`, `rag.sync`: ROW EXCLUSIVE, in short transactions; whoever changes rows of several of them does so
//!   in this order.
//! - [`crate::pg::object_lock`] of an index: held exclusively, to the end of the transaction, by who replaces chunks of any
//!   row: `rag_refresh` and step 7; shared by writers in `immediate` mode. The worker does not wait for it, but goes on with
//!   another index.
//! - The file lock on `pg_stat_tmp/pg_rag_sync_<database>`: held by the worker of that database as long as it lives.
//!
//! # Crashes
//!
//! - Writer, before its commit: its `rag.change` rows are gone with its transaction.
//! - After the commit, before the datagram: the next commit, `rag_wait` or look at `rag_index_status` wakes the worker; so does
//!   the start of the supervisor, if the worker's file is there.
//! - Worker, at any point: 3, 4, 5, 7 happen wholly or not; entries claimed by it are freed when its successor starts, with
//!   their attempts counted, so an entry that kills its worker does not do so for ever. PostgreSQL starts the worker again.
//! - Model server: the batch fails and is tried again in halves.
//!
//! - `capture`: the trigger's function; `watched`: which indexes a table has, from memory; `changes`: writing `rag.change`;
//! - `triggers`: making and dropping the triggers; `events`: what other DDL does to an index;
//! - `wake`, `worker`: the worker's start and its loop; `batch`: steps 5 to 7 for some rows; `jobs`, `queue`, `sweep`: its transactions; `summaries`: what it does last;
//! - `immediate`: the work in the writer's statement; `state`: rows of `rag.sync`;
//! - `control`: `rag_wait`, `rag_pause_index`, `rag_resume_index`, `rag_retry`, and what the status views ask.

mod batch;
mod capture;
mod changes;
mod control;
pub mod events;
mod immediate;
mod jobs;
mod queue;
pub mod state;
mod summaries;
mod sweep;
pub mod triggers;
pub mod wake;
mod watched;
mod worker;

pub use summaries::leave as leave_summaries;

/// Starts to notice changes of tables. Called once, from `_PG_init`.
pub fn init() {
    watched::init();
}
