//! What there is to compute with, for the view `rag_devices`.

use crate::accelerator::gpus::gpus;
use pg_rag_protocol::message::Device;

/// The processor, with the features that kernels ask for, and then the GPUs that this server could use.
pub fn devices() -> Vec<Device> {
    let processor = Device {
        name: processor_name(),
        kind: "cpu".to_owned(),
        memory_bytes: memory_bytes(),
        compute_capability: None,
        features: features().into_iter().map(str::to_owned).collect(),
    };
    std::iter::once(processor).chain(gpus()).collect()
}

/// The text behind the first `key` of a file of lines `key : value`.
fn value_in(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn processor_name() -> String {
    value_in("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Memory of the machine; 0 where the system does not tell.
fn memory_bytes() -> u64 {
    let kilobytes = value_in("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let all = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
    ];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let all = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
    ];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_there() {
        let devices = devices();
        assert_eq!((devices.len(), devices[0].kind.as_str()), (1 + gpus().len(), "cpu"));
        assert!(!devices[0].name.is_empty() && devices[0].memory_bytes > 1 << 20, "{devices:?}");
    }
}
