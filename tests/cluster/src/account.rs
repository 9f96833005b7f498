//! The operating-system user that clusters run as: `postgres` when the tests run as root, else the tests' own user.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// User and group of `postgres` if this process is root's.
fn other_account() -> Option<(u32, u32)> {
    static ACCOUNT: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *ACCOUNT.get_or_init(|| {
        let own_uid = std::fs::metadata("/proc/self").expect("/proc is mounted").uid();
        (own_uid == 0).then(|| (id_of_postgres("-u"), id_of_postgres("-g")))
    })
}

fn id_of_postgres(option: &str) -> u32 {
    let output = Command::new("id").args([option, "postgres"]).output().expect("id runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("the operating system has a user postgres, as clusters cannot run as root")
}

/// A command that will run as the clusters' user.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = other_account() {
        command.uid(uid).gid(gid);
    }
    // The user may not be able to enter the tests' folder.
    command.current_dir("/").env("LC_ALL", "C.UTF-8").env_remove("PGDATA").env_remove("PGOPTIONS");
    // Every error would carry a backtrace, which takes longer than the error itself.
    command.env_remove("RUST_BACKTRACE");
    command
}

/// Gives `path` to the clusters' user.
pub fn give(path: &Path) {
    if let Some((uid, gid)) = other_account() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("root can give files away");
    }
}
