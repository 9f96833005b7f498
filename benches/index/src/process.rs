//! What the kernel says about a backend on this machine, and how busy the machine is. Elsewhere: nothing.

use std::fs::read_to_string;

/// A server process on this machine.
#[derive(Clone, Copy)]
pub struct Process {
    pid: i32,
}

impl Process {
    /// `None` unless the number is a backend of PostgreSQL here: a server may be on another machine.
    pub fn local(pid: i32) -> Option<Self> {
        let title = read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        title.starts_with("postgres").then_some(Self { pid })
    }

    /// Seconds it has spent on a processor: a busy machine changes them less than the time of the clock.
    pub fn cpu_s(self) -> Option<f64> {
        let statistics = read_to_string(format!("/proc/{}/schedstat", self.pid)).ok()?;
        Some(statistics.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
    }

    /// Memory of its own, without what it shares, in MiB.
    pub fn private_mib(self) -> Option<f64> {
        let status = read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
    }
}

/// Processes that wanted a processor in the last minute, on average.
pub fn load_average() -> Option<f64> {
    read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}
