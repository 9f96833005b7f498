//! Who is at the other end of a Unix socket. The standard library cannot tell yet, hence the system call.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Whether the process that connected has the effective user id of this one.
pub fn is_same_user(stream: &UnixStream) -> io::Result<bool> {
    // SAFETY: geteuid has no arguments and cannot fail.
    let own_uid = unsafe { libc::geteuid() };
    Ok(peer_uid(stream)? == own_uid)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn peer_uid(stream: &UnixStream) -> io::Result<libc::uid_t> {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = std::mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed; both pointers are to live local variables,
    // and `length` is the size of the one that is written to.
    let status = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if status == 0 {
        Ok(credentials.uid)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn peer_uid(stream: &UnixStream) -> io::Result<libc::uid_t> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the descriptor is open for as long as `stream` is borrowed; both pointers are to live local variables.
    let status = unsafe { libc::getpeereid(stream.as_raw_fd(), &raw mut uid, &raw mut gid) };
    if status == 0 {
        Ok(uid)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_is_the_same_user() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert!(is_same_user(&here).unwrap());
    }
}
