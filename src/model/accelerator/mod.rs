//! Computing on a GPU: operations on candle's tensors, as the models' accelerated passes are made of them.
//!
//! The kernels of [`crate::compute`] are the processor's own and do not come through here. What is here runs on any device
//! of candle: tests compare it with those kernels and with the references on a GPU where there is one, else on candle's
//! processor device.
//!
//! - [`choice`]: the option of the server that says where to compute;
//! - [`gpus`]: the GPUs that there are, for the view `rag_devices`;
//! - [`linear`]: matrices on the device, and products with them.
//!
//! Called by [`crate::decoder`] and [`crate::encoder`], whose accelerated passes follow the same plans as those of the
//! processor.
//!
//! Invariants:
//! - Rows that go from one operation to the next are f32; what is stored in fewer bits is so for the memory's sake.
//! - Every upload and every pass is a turn ([`Accelerator::turn`]): one at a time, and done when it ends. candle gives each
//!   thread a stream of its own and shares buffers between them, so without turns threads could read what is not there yet.

pub mod choice;
pub mod gpus;
pub mod linear;
#[cfg(test)]
pub mod testing;

use crate::error::{ModelError, Result};
use candle_core::Device;
use std::sync::{Arc, Mutex, PoisonError};

/// A device that models compute on. Shared by all of them as `Arc<Accelerator>`.
pub struct Accelerator {
    device: Device,
    turn: Mutex<()>,
}

impl Accelerator {
    pub fn new(device: Device) -> Arc<Self> {
        Arc::new(Self { device, turn: Mutex::new(()) })
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Does `work` while no other thread uses the device, and waits until the device has done it.
    ///
    /// Errors: those of `work`; `OutOfMemory` or `Internal` for what the device could not do.
    pub fn turn<T>(&self, work: impl FnOnce(&Device) -> Result<T>) -> Result<T> {
        // Who panicked in a turn left no state here.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = work(&self.device);
        // Also after an error: what has been started must not go on beside the next turn.
        let done = self.device.synchronize();
        let outcome = outcome?;
        done?;
        Ok(outcome)
    }
}

impl From<candle_core::Error> for ModelError {
    /// A device that has no memory left says so in a text of its driver.
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        // What may follow is a backtrace.
        let text = text.lines().next().unwrap_or_default();
        let lower = text.to_ascii_lowercase();
        if ["out_of_memory", "out of memory", "alloc_failed"].iter().any(|told| lower.contains(told)) {
            return ModelError::OutOfMemory(format!("the device has none left ({text})"));
        }
        ModelError::Internal(format!("computing on the device failed: {text}"))
    }
}

/// An error for each of several requests that failed together.
pub fn same_error(error: &ModelError) -> ModelError {
    match error {
        ModelError::OutOfMemory(text) => ModelError::OutOfMemory(text.clone()),
        ModelError::Internal(text) => ModelError::Internal(text.clone()),
        other => ModelError::Internal(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_memory_is_told_from_a_fault() {
        let driver = candle_core::Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")\n  at x".into());
        let error = ModelError::from(driver);
        assert!(matches!(&error, ModelError::OutOfMemory(text) if text.ends_with("\"out of memory\"))")), "{error}");
        assert!(matches!(same_error(&error), ModelError::OutOfMemory(_)));
        let error = ModelError::from(candle_core::Error::Msg("shape mismatch".into()));
        assert!(matches!(&error, ModelError::Internal(text) if text.ends_with("shape mismatch")), "{error}");
        assert!(matches!(same_error(&ModelError::Cancelled), ModelError::Internal(_)));
    }

    #[test]
    fn turns_do_not_overlap() {
        let accelerator = Accelerator::new(Device::Cpu);
        let inside = Mutex::new(());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let turn = accelerator.turn(|_| {
                            let alone = inside.try_lock().is_ok();
                            std::thread::yield_now();
                            Ok(alone)
                        });
                        assert!(turn.unwrap(), "two threads are inside");
                    }
                });
            }
        });
        let failed: Result<()> = accelerator.turn(|_| Err(ModelError::Cancelled));
        assert!(matches!(failed, Err(ModelError::Cancelled)));
        assert!(accelerator.turn(|_| Ok(())).is_ok());
    }
}
