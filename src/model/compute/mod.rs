//! Thread pool and numeric kernels.

pub mod cached_attention;
#[cfg(target_arch = "x86_64")]
mod cached_attention_x86;
pub mod crew;
pub mod elementwise;
pub mod gemm;
pub mod pool;
pub mod quant;
#[cfg(target_arch = "x86_64")]
mod quant_x86;

pub use crew::Crew;
pub use pool::Pool;
