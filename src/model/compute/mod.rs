//! Thread pool and numeric kernels.

pub mod cached_attention;
pub mod crew;
pub mod dense;
pub mod elementwise;
pub mod gemm;
pub mod parts;
pub mod pool;
pub mod quant;
mod team;

pub use crew::Crew;
pub use pool::Pool;
