//! What the server process arranges with the operating system before it starts any thread.
//!
//! The process is a grandchild of the postmaster and inherits things that suit a PostgreSQL process but not this one:
//! signal dispositions and mask, protection from the out-of-memory killer, and the terminal's process group.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, RawFd};

/// An allocation of so many bytes, or more, is a mapping of its own, which the system has back when it is freed.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: libc::c_int = 1 << 20;

/// So many free bytes stay with the process at the end of each of its heaps.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 4 << 20;

/// Sets signals, umask, out-of-memory priority and limits of what freed memory stays. Call it first, while the process has
/// one thread.
///
/// - SIGTERM ends the process at once: clients see the closed connection, and nothing here needs saving.
/// - SIGINT and SIGHUP are ignored: a terminal sends them to the whole process group, where only the postmaster
///   decides what they mean.
/// - Files, the socket among them, are created for the own user only.
/// - When memory runs out, the kernel should take this process, which is restarted in seconds, before a backend,
///   whose death would restart the whole cluster.
/// - glibc maps large allocations until one has been freed; from then on it keeps up to 64 MB of what such ones leave.
///   The keys and values of a generation are that large.
pub fn arrange() {
    // SAFETY: called before other threads exist; the dispositions are the constants that signal() takes, the signal
    // set is a live local variable initialised by sigemptyset before it is used; umask cannot fail; mallopt takes any
    // number, and one that it does not like changes nothing.
    unsafe {
        #[cfg(target_env = "gnu")]
        for (parameter, bytes) in [(libc::M_MMAP_THRESHOLD, MAPPED_BYTES), (libc::M_TRIM_THRESHOLD, KEPT_BYTES)] {
            libc::mallopt(parameter, bytes);
        }
        libc::signal(libc::SIGTERM, libc::SIG_DFL);
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::umask(0o077);
    }
    // Without the file (another system) or the right to write it, the process is merely no preferred victim.
    let _ = std::fs::write("/proc/self/oom_score_adj", "900");
}

/// Ends the process as soon as the other end of `control_fd` is closed, which is when the supervisor is gone.
pub fn exit_with_supervisor(control_fd: RawFd) -> io::Result<()> {
    // SAFETY: fcntl only reads or sets flags of the descriptor and fails on one that is not open.
    if control_fd < 0 || unsafe { libc::fcntl(control_fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (checked above) and was passed to this process for this use only: nothing else
    // in it knows the number, so the File is its only owner.
    let mut control = unsafe { File::from_raw_fd(control_fd) };
    std::thread::Builder::new().name("control".into()).stack_size(64 * 1024).spawn(move || {
        let mut byte = [0u8; 1];
        loop {
            match control.read(&mut byte) {
                Ok(0) => std::process::exit(0),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => std::process::exit(0),
            }
        }
    })?;
    Ok(())
}

/// Exit code after a panic that the server cannot go on from: not 0, so the supervisor starts the next one.
pub const PANICKED: i32 = 70;

/// Body of a thread that the server cannot do without: a panic in it ends the process. Clients see the end of their
/// connections, where they would wait for ever otherwise.
pub fn vital(name: &str, body: impl FnOnce()) {
    // Whatever the panic left behind, nobody looks at it any more.
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
        // The panic hook has printed what and where.
        eprintln!("pg_rag_server: the process ends, because thread \"{name}\" has panicked");
        std::process::exit(PANICKED);
    }
}

/// Limits this process to `memory_bytes` of memory and `cpu_s` seconds of computing, and ties its life to its parent's.
/// For the processes that read documents: what cannot be bounded inside of a library is bounded here.
pub fn confine(memory_bytes: u64, cpu_s: u64) -> io::Result<()> {
    for (resource, value) in [(libc::RLIMIT_AS, memory_bytes), (libc::RLIMIT_CPU, cpu_s), (libc::RLIMIT_CORE, 0)] {
        let limit = libc::rlimit { rlim_cur: value as libc::rlim_t, rlim_max: value as libc::rlim_t };
        // SAFETY: setrlimit reads the live local variable and changes nothing else in this process' memory.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    #[cfg(target_os = "linux")]
    // SAFETY: prctl with this option takes a number and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    Ok(())
}

/// Resident set of this process in bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    // SAFETY: sysconf reads a constant of the system.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page_bytes).unwrap_or(0)
}
