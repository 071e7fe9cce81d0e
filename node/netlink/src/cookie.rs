//! The namespace's cookie, which BPF programs see through `bpf_get_netns_cookie`.
#![allow(unsafe_code)] // nix has no typed `SO_NETNS_COOKIE`.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// From asm-generic/socket.h; the kernel has it since 5.14 (e8b9eab99232).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the calling thread's namespace.
pub fn of_this_thread() -> io::Result<u64> {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` and `len` are live locals, and `len` is the size of `cookie`.
    let rc = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut len)
    };
    if rc == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
