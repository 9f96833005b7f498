//! The SQL type `vector(n)`, compatible with pgvector 0.8 in text, binary and on-disk format, error texts and casts.
//!
//! Each file is a translation: the arithmetic, the parser and the limits are `pg_rag_engine`'s. The SQL objects are
//! declared by hand in `sql/types.sql`, so every function here is `#[pg_extern(sql = false)]` and is named there by
//! its C symbol, `<name>_wrapper`.
//!
//! Invariant: a [`Vector`] has 1 to 16,000 elements, all finite. Every way in (text, binary, arrays, models) checks it;
//! reading a stored datum checks only its size, because the datum was checked when it was made.
//!
//! Other modules take and return [`Vector`], also as `Option<Vector>`, `Vec<Vector>` (`vector[]`), SPI parameter and SPI
//! result. The functions here take `borrowed::VectorRef`, which reads the stored bytes in place.

mod array;
mod borrowed;
mod casts;
mod comparison;
mod datum;
mod distance;
mod error_map;
mod io;
mod type_oid;

#[cfg(any(test, feature = "pg_test"))]
mod tests;

pub use datum::Vector;
