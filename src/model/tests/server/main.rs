//! The real server process with the two real models, over its socket.
//!
//! The models are looked for in `$PG_RAG_MODELS`, by default /usr/local/share/pg_rag/models; without them the tests fail.

mod device;
mod end_to_end;
mod faults;
mod memory;
mod process;
mod signals;
mod storm;
