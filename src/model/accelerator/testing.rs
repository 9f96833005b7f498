//! The device of the tests: the first GPU, where the server is built for GPUs and there is one; else candle's processor
//! device. So one set of tests holds for both.

use super::choice::DeviceChoice;
use super::Accelerator;
use candle_core::Device;
use std::sync::{Arc, OnceLock};

/// Tensors of two handles of one GPU do not go together, so all tests have the same.
pub fn accelerator() -> Arc<Accelerator> {
    static ACCELERATOR: OnceLock<Arc<Accelerator>> = OnceLock::new();
    let open = || {
        let gpu = DeviceChoice::Auto.open().unwrap_or_else(|error| panic!("{error}"));
        gpu.unwrap_or_else(|| Accelerator::new(Device::Cpu))
    };
    ACCELERATOR.get_or_init(open).clone()
}

pub fn device() -> Device {
    accelerator().device().clone()
}
