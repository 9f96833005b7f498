//! The algorithms of pg_rag: pure functions of their arguments. No PostgreSQL, no models, no I/O, no clock, no global
//! state but the choice of SIMD kernels. In dependency order:
//!
//! - [`vector`]: what a dense vector may hold, its text form, its wire form, element-wise arithmetic, averages.
//! - [`sparse`]: the same for sparse vectors, and their distances.
//! - [`distance`]: the distances between vectors, and between bit strings, with SIMD kernels chosen once per process.
//! - [`code`]: short codes of vectors and the distances estimated from them, for an index.
//! - [`hnsw`]: the graph index: what its pages hold.
//! - [`text`]: cutting a text into chunks under a token or character budget.
//! - [`context`]: which sentences of the passages found go into the prompt.
//! - [`evaluate`]: how good a ranking is.
//! - [`lexical`]: ranking by words (BM25).
//! - [`rank`]: merging ranked lists (reciprocal rank fusion).
//! - [`prompt`]: packing passages into a token budget, the prompt around them, the citations in the answer.

pub mod code;
pub mod context;
pub mod distance;
pub mod evaluate;
pub mod hnsw;
pub mod lexical;
pub mod prompt;
pub mod rank;
pub mod sparse;
#[cfg(test)]
mod test_scale;
pub mod text;
pub mod vector;
