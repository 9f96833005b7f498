//! Thin safe wrappers of PostgreSQL's C interface: what the rest of this crate needs of it and pgrx does not give.

#![allow(unsafe_code)]

pub mod append;
pub mod backend;
pub mod buffer;
pub mod bytea;
pub mod client;
pub mod condition;
pub mod drop_notice;
pub mod expression;
pub mod foreign;
pub mod invalidation;
pub mod latch;
pub mod list;
pub mod object_lock;
pub mod owner;
pub mod parallel;
pub mod progress;
pub mod role;
pub mod settings;
pub mod snapshot;
pub mod statistics;
pub mod table;
pub mod text_array;
pub mod toast;
pub mod transaction;
pub mod trigger;
