//! SQL functions over text and models. Each file translates SQL arguments into one request to the model server (or one
//! call of the engine) and the answer back; no algorithm lives here.

pub mod chunk;
pub mod embed;
pub mod extract;
pub mod generate;
pub mod rerank;
pub mod summarize;
pub mod tokens;
