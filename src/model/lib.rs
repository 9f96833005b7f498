//! Model runtime of pg_rag. Text in, vectors or text out; knows nothing of PostgreSQL and nothing of indexes.
//!
//! From the bottom up:
//! - [`error`]: everything that can go wrong, as one typed enum;
//! - [`hub`]: downloading models from a Hugging Face hub;
//! - [`source`]: finding, hashing and inspecting the files of a model;
//! - [`compute`]: thread pool and numeric kernels (the only `unsafe` code beside the memory map);
//! - [`accelerator`]: GPUs, and what models compute there;
//! - [`tokenizer`]: text to token ids and back, from `tokenizer.json` or from GGUF metadata; chat templates;
//! - [`encoder`]: embedding models (BERT family, safetensors);
//! - [`adapter`]: LoRA adapters of generation models;
//! - [`decoder`]: generation models (llama family, GGUF);
//! - [`quantize`]: models with smaller weights, as GGUF files;
//! - [`remote`]: models that run elsewhere;
//! - [`server`]: the process that owns the models: connections, scheduling, model registry.

pub mod accelerator;
pub mod adapter;
pub mod compute;
pub mod decoder;
pub mod encoder;
pub mod error;
pub mod hub;
pub mod quantize;
pub mod remote;
pub mod server;
pub mod source;
pub mod tokenizer;

pub use error::{ModelError, Result};
