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
//! - [`conversation`]: a question that goes on with a conversation, as one that stands alone.
//! - [`neighbors`]: a chunk and those beside it as one text.
//! - [`evaluate`]: how good a ranking is.
//! - [`lexical`]: ranking by words (BM25).
//! - [`rank`]: merging ranked lists (reciprocal rank fusion).
//! - [`diversity`]: a ranking that does not repeat itself (maximal marginal relevance).
//! - [`map`]: a collection of vectors as a picture.
//! - [`prompt`]: packing passages into a token budget, the prompt around them, the citations in the answer.
//! - [`summary`]: summaries of texts of any length, in pieces that fit a model.

pub mod code;
pub mod context;
pub mod conversation;
pub mod distance;
pub mod diversity;
pub mod evaluate;
pub mod hnsw;
pub mod lexical;
pub mod map;
pub mod neighbors;
pub mod prompt;
pub mod rank;
pub mod sparse;
pub mod summary;
#[cfg(test)]
mod test_scale;
pub mod text;
pub mod vector;
