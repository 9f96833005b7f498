//! What `/proc` knows of processes.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Processes whose program is called `name` and whose working directory is `folder`.
///
/// The working directory of the processes of a cluster is its data directory, also when their parent is gone.
pub fn named_in(name: &str, folder: &Path) -> Vec<i32> {
    in_folder(folder, |pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name))
}

/// Processes of the cluster in `folder` whose title contains `text`.
pub fn titled_in(text: &str, folder: &Path) -> Vec<i32> {
    in_folder(folder, |pid| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|title| String::from_utf8_lossy(&title).contains(text))
    })
}

fn in_folder(folder: &Path, wanted: impl Fn(i32) -> bool) -> Vec<i32> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let processes = fs::read_dir("/proc").expect("/proc is mounted");
    let mut found: Vec<i32> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder))
        .filter(|&pid| is_alive(pid) && wanted(pid))
        .collect();
    found.sort_unstable();
    found
}

/// Whether there is such a process, if only waiting to be reaped.
pub fn exists(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether the process runs; one that only waits to be reaped does not.
pub fn is_alive(pid: i32) -> bool {
    stat_fields(pid).is_some_and(|fields| fields[0] != "Z")
}

/// Processor time that the process has used, in clock ticks.
pub fn cpu_ticks(pid: i32) -> u64 {
    let fields = stat_fields(pid).expect("the process runs");
    let ticks = |at: usize| fields[at].parse::<u64>().expect("/proc/PID/stat holds numbers");
    ticks(11) + ticks(12)
}

/// Fields of `/proc/PID/stat` from the third, the state, on.
fn stat_fields(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Memory that only this process has, in KiB.
pub fn private_kib(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the process runs");
    let sum = |name: &str| -> u64 {
        rollup.lines().filter_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok()).sum()
    };
    sum("Private_Clean:") + sum("Private_Dirty:")
}

/// Sends `signal` (such as `KILL`) to a process of a cluster that the test started.
pub fn send_signal(signal: &str, pid: i32) {
    // The shell's own: the program of that name is not installed everywhere.
    let status = Command::new("sh").args(["-c", &format!("kill -s {signal} {pid}")]).status().expect("sh runs");
    assert!(status.success(), "could not send {signal} to process {pid}");
}
