//! Where a transformer's passes run: on the processor ([`super::passes`]) or on a device ([`super::accelerated`]).
//!
//! Embedding models and cross-encoders hold one of these and are otherwise the same.

use super::accelerated::AcceleratedPasses;
use super::config::Dtype;
use super::passes::{Interrupted, Outcome, Passes};
use super::shape::Shape;
use super::transformer::Transformer;
use crate::accelerator::Accelerator;
use crate::compute::Pool;
use crate::decoder::Abandoned;
use crate::error::Result;
use crate::source::safetensors::Checkpoint;
use std::sync::Arc;

/// A loaded transformer.
pub enum Engine {
    Processor(Passes),
    Device(AcceleratedPasses),
}

impl Engine {
    /// Reads the weights. Errors: those of [`Transformer::load`], and of the device.
    pub fn load(
        shape: &Shape,
        dtype: Dtype,
        checkpoint: &Checkpoint,
        accelerator: Option<&Arc<Accelerator>>,
    ) -> Result<Self> {
        Ok(match accelerator {
            None => Self::Processor(Passes::new(Transformer::load(shape, dtype, checkpoint)?, dtype)),
            Some(accelerator) => Self::Device(AcceleratedPasses::load(shape, dtype, checkpoint, accelerator)?),
        })
    }

    /// Bytes of the weights and of the tables by position.
    pub fn resident_bytes(&self) -> usize {
        match self {
            Self::Processor(passes) => passes.transformer.resident_bytes(),
            Self::Device(passes) => passes.resident_bytes(),
        }
    }

    /// Whether the model knows a second type of tokens.
    pub fn knows_second(&self) -> bool {
        match self {
            Self::Processor(passes) => !passes.transformer.second_type.is_empty(),
            Self::Device(passes) => passes.knows_second(),
        }
    }

    /// The outcomes of all texts of `batch`, one after the other. Errors as [`Passes::run_until`].
    pub fn run(
        &self,
        batch: &[Vec<u32>],
        pool: &Pool,
        outcome: &dyn Outcome,
        abandoned: Abandoned<'_>,
    ) -> Result<Vec<f32>> {
        self.run_until(batch, pool, outcome, abandoned, &|| false)
    }

    /// As [`Passes::run_until`]; `pool` computes where the processor does.
    pub fn run_until(
        &self,
        batch: &[Vec<u32>],
        pool: &Pool,
        outcome: &dyn Outcome,
        abandoned: Abandoned<'_>,
        urgent: Interrupted<'_>,
    ) -> Result<Vec<f32>> {
        match self {
            Self::Processor(passes) => passes.run_until(batch, pool, outcome, abandoned, urgent),
            Self::Device(passes) => passes.run_until(batch, outcome, abandoned, urgent),
        }
    }
}
