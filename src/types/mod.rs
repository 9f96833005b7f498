//! The SQL types `vector(n)`, `halfvec(n)` and `sparsevec(n)`, and distances of `bit`: compatible with pgvector 0.8 in
//! text, binary and on-disk format, names, error texts and casts.
//!
//! Each file is a translation: the arithmetic, the parsers and the limits are `pg_rag_engine`'s. The SQL objects are
//! declared by hand in `sql/types.sql`, so every function here is `#[pg_extern(sql = false)]` and is named there by
//! its C symbol, `<name>_wrapper`. `stamp` has the symbols of every type, over the functions of the other files.
//!
//! Invariant: a [`Dense`] has 1 to 16,000 elements, all finite, and a `Sparse` ascending indices and no zeros. Every way in
//! (text, binary, arrays, models) checks it; reading a stored datum checks only its size, because the datum was checked
//! when it was made.
//!
//! Other modules take and return [`Vector`], also as `Option<Vector>`, `Vec<Vector>` (`vector[]`), SPI parameter and SPI
//! result. The functions here take `DenseRef` and `SparseArg`, which read the stored bytes in place.

mod aggregate;
mod array;
mod bits;
mod casts;
mod dense;
mod distance;
mod element;
mod error_map;
mod io;
mod late_interaction;
mod sparse;
mod stamp;
mod state;
mod type_oid;
mod varlena;

#[cfg(any(test, feature = "pg_test"))]
mod tests;

pub use bits::BitArg;
pub use dense::{Dense, DenseRef};
pub use sparse::SparseArg;

/// A `vector` of the catalogue and of models.
pub type Vector = Dense<f32>;
