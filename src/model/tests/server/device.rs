//! The option that says where models compute.

use super::process::SERVER;
use std::process::Command;

/// What a server that is told to use `device` says when it cannot, and its exit code.
fn refused(device: &str) -> (Option<i32>, String) {
    let folder = std::env::temp_dir().join(format!("pg_rag_server_device_{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let output = Command::new(SERVER)
        .args(["serve", "--socket", "socket", "--device", device])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(!folder.join("socket").exists(), "the server listens");
    std::fs::remove_dir_all(&folder).unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_device_that_cannot_be_used_is_said_at_the_start() {
    let (code, message) = refused("gpu");
    assert!(code == Some(2) && message.contains("device must be auto, cpu, cuda or cuda:N"), "{code:?}: {message}");
    let (code, message) = refused("cuda:99");
    let reason = match cfg!(feature = "cuda") {
        true => "device \"cuda:99\" is not there",
        false => "build pg_rag_server with --features cuda",
    };
    assert!(code == Some(1) && message.contains(reason), "{code:?}: {message}");
}
