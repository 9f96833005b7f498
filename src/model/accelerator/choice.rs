//! The option `--device` of the server: where models compute.
//!
//! | value | meaning |
//! |---|---|
//! | `auto` | the first GPU, if the server is built for GPUs and there is one; else the processor |
//! | `cpu` | the processor |
//! | `cuda`, `cuda:N` | the first GPU, or GPU N, counted from 0; without it the server does not start |

use super::Accelerator;
use crate::error::{ModelError, Result};
use std::str::FromStr;
use std::sync::Arc;

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    #[default]
    Auto,
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = ModelError;

    /// Errors: `InvalidArgument` with the values that there are.
    fn from_str(text: &str) -> Result<Self> {
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse().ok(),
            false => None,
        };
        let choice = match text {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            other => other.strip_prefix("cuda:").and_then(number).map(Self::Cuda),
        };
        choice.ok_or_else(|| {
            ModelError::InvalidArgument(format!(
                "device must be auto, cpu, cuda or cuda:N with a number N, not \"{text}\""
            ))
        })
    }
}

impl DeviceChoice {
    /// The device, or None for the processor. Called once, when the server starts.
    ///
    /// Errors: `InvalidArgument`, saying what to do, for a GPU that cannot be used.
    pub fn open(self) -> Result<Option<Arc<Accelerator>>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Cuda(number) => open_cuda(number).map(Some),
            Self::Auto => Ok(open_first()),
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn open_first() -> Option<Arc<Accelerator>> {
    None
}

/// The first GPU, if there is one. What keeps it from being used is said where the server's messages go: one that computes
/// more slowly is what was asked for.
#[cfg(feature = "cuda")]
fn open_first() -> Option<Arc<Accelerator>> {
    if super::gpus::count() == 0 {
        return None;
    }
    open_cuda(0).inspect_err(|error| eprintln!("pg_rag_server: {error}; the processor computes")).ok()
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(number: usize) -> Result<Arc<Accelerator>> {
    Err(ModelError::InvalidArgument(format!(
        "device \"cuda:{number}\" needs a server that is built for GPUs: build pg_rag_server with --features cuda, \
         or choose the device cpu or auto"
    )))
}

#[cfg(feature = "cuda")]
fn open_cuda(number: usize) -> Result<Arc<Accelerator>> {
    let there = super::gpus::count();
    if number >= there {
        let there = match there {
            0 => "there is no GPU, or no driver for one".to_owned(),
            1 => "there is one GPU, cuda:0".to_owned(),
            count => format!("there are {count} GPUs, cuda:0 to cuda:{}", count - 1),
        };
        return Err(ModelError::InvalidArgument(format!(
            "device \"cuda:{number}\" is not there: {there}; choose another, or the device cpu or auto"
        )));
    }
    match candle_core::Device::new_cuda(number) {
        Ok(device) => Ok(Accelerator::new(device)),
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().next().unwrap_or_default();
            Err(ModelError::InvalidArgument(format!(
                "device \"cuda:{number}\" could not be used: {reason}; check the driver with nvidia-smi, or choose the \
                 device cpu"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_others_refused() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(0)),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:13", DeviceChoice::Cuda(13)),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
        }
        for text in ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda 0", "cuda:99999999999999999999"]
        {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(matches!(&error, ModelError::InvalidArgument(message) if message.contains("cuda:N")), "{error}");
        }
    }

    #[test]
    fn the_processor_is_no_device() {
        assert!(DeviceChoice::Cpu.open().unwrap().is_none());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_a_gpu_is_refused_and_auto_is_the_processor() {
        assert!(DeviceChoice::Auto.open().unwrap().is_none());
        let error = DeviceChoice::Cuda(0).open().err().unwrap();
        let named = "build pg_rag_server with --features cuda";
        assert!(matches!(&error, ModelError::InvalidArgument(message) if message.contains(named)), "{error}");
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_that_is_not_there_is_refused() {
        let error = DeviceChoice::Cuda(4711).open().err().unwrap();
        let named = "\"cuda:4711\" is not there";
        assert!(matches!(&error, ModelError::InvalidArgument(message) if message.contains(named)), "{error}");
        let there = super::super::gpus::count() > 0;
        assert_eq!(DeviceChoice::Auto.open().unwrap().is_some(), there);
    }
}
