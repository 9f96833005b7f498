//! A small disk, to be filled.

use crate::account;
use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A file system in memory, removed when this is dropped or the test is killed.
///
/// It must outlive the cluster that uses it: declare it first.
pub struct SmallDisk {
    folder: PathBuf,
    ballast: File,
    guard: Child,
}

impl SmallDisk {
    /// Mounts a disk of so many megabytes. `None`, with a message, where that is not allowed.
    pub fn mount(megabytes: usize) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("pg_rag-disk-").tempdir_in("/tmp").expect("/tmp is writable");
        let options = format!("size={megabytes}m,mode=0755");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                eprintln!("SKIPPED, no disk can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim());
                return None;
            }
            Err(failure) => {
                eprintln!("SKIPPED, no disk can be mounted: {failure}");
                return None;
            }
        }
        let folder = folder.keep();
        let guard = Command::new("sh")
            .args(["-c", "cat; umount -l \"$1\"; rmdir \"$1\"", "guard"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // a Ctrl-C is for the tests; the guard then does its work
            .spawn()
            .expect("sh runs");
        let ballast = File::create(folder.join("ballast")).expect("the disk is empty");
        let disk = Self { folder, ballast, guard };
        std::fs::create_dir(disk.space()).expect("the disk is empty");
        account::give(&disk.space());
        Some(disk)
    }

    /// A folder on the disk that belongs to the clusters' user.
    pub fn space(&self) -> PathBuf {
        self.folder.join("space")
    }

    /// Fills the disk up to this many free kilobytes. Less may be free afterwards if less was free before.
    pub fn leave(&mut self, kilobytes: u64) {
        loop {
            match self.ballast.write(&[1; 4096]) {
                Ok(_) => {}
                Err(failure) if failure.kind() == ErrorKind::StorageFull => break,
                Err(failure) => panic!("the disk cannot be filled: {failure}"),
            }
        }
        self.free(kilobytes);
    }

    /// Makes this many more kilobytes free.
    pub fn free(&mut self, kilobytes: u64) {
        let length = self.ballast.metadata().expect("the file is open").len().saturating_sub(kilobytes * 1024);
        self.ballast.set_len(length).expect("the file can be cut");
        self.ballast.seek(SeekFrom::End(0)).expect("a file has an end");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // The guard cannot be helped if it fails.
        let _ = self.guard.wait();
    }
}
