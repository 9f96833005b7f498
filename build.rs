//! Link arguments of the extension library.
//!
//! - `--no-gc-sections` keeps the symbols from which cargo-pgrx generates the SQL. Setting it here, for the library
//!   alone, instead of letting cargo-pgrx set it through `rustflags` keeps the flags of `cargo test` and
//!   `cargo pgrx install` equal, so dependencies are built once (run with CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1).
//! - `-Bsymbolic` binds the library's own symbols to itself: PostgreSQL loads modules with RTLD_GLOBAL, and two
//!   extensions may export the same wrapper name.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg-cdylib=-Wl,--no-gc-sections");
        println!("cargo::rustc-link-arg-cdylib=-Wl,-Bsymbolic");
    }
}
