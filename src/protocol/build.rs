//! Derives the build id: a hash of this crate's sources. The extension library and `pg_rag_server` compile the same
//! crate, so equal ids mean that both sides read and write exactly the same bytes.

use std::fs;
use std::path::Path;

fn main() {
    let sources =
        ["lib.rs", "message.rs", "failure.rs", "document.rs", "remote.rs", "status.rs", "frame.rs", "Cargo.toml"];
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325; // FNV-1a, 64 bits
    for name in sources {
        println!("cargo::rerun-if-changed={name}");
        let bytes = fs::read(Path::new(name)).unwrap_or_default();
        for byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    println!("cargo::rustc-env=PG_RAG_PROTOCOL_HASH={hash}");
}
