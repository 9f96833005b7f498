//! The GPUs that there are. Without the feature `cuda` none is looked for.

use pg_rag_protocol::message::Device;

/// What a view shows of each GPU that the driver lets this process see.
#[cfg(not(feature = "cuda"))]
pub fn gpus() -> Vec<Device> {
    Vec::new()
}

/// What a view shows of each GPU that the driver lets this process see.
///
/// Asking means to open each of them, which takes a moment and memory on it, so it is done once: GPUs neither come nor go
/// while a process runs.
#[cfg(feature = "cuda")]
pub fn gpus() -> Vec<Device> {
    static GPUS: std::sync::OnceLock<Vec<Device>> = std::sync::OnceLock::new();
    // One that does not answer is left out, as it cannot be used either.
    GPUS.get_or_init(|| (0..count()).filter_map(|number| describe(number).ok()).collect()).clone()
}

/// How many there are; 0 where there is no driver.
#[cfg(feature = "cuda")]
pub fn count() -> usize {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    CudaContext::device_count().ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

#[cfg(feature = "cuda")]
fn describe(number: usize) -> std::result::Result<Device, candle_core::cuda_backend::cudarc::driver::DriverError> {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    let context = CudaContext::new(number)?;
    let (major, minor) = context.compute_capability()?;
    Ok(Device {
        name: context.name()?,
        kind: "cuda".to_owned(),
        memory_bytes: context.total_mem()? as u64,
        compute_capability: Some(format!("{major}.{minor}")),
        features: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_there_is_none() {
        assert!(gpus().is_empty());
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn gpus_are_described() {
        if count() == 0 {
            eprintln!("skipped: there is no GPU");
            return;
        }
        let gpus = gpus();
        assert_eq!(gpus.len(), count());
        for gpu in gpus {
            assert!(gpu.kind == "cuda" && !gpu.name.is_empty() && gpu.memory_bytes > 1 << 28, "{gpu:?}");
            let capability: f32 = gpu.compute_capability.unwrap().parse().unwrap();
            assert!(capability >= 3.0, "{capability}");
        }
    }
}
