//! The namespace's cookie, which BPF programs see through `bpf_get_netns_cookie`.
#![allow(unsafe_code)] // nix has no typed `SO_NETNS_COOKIE`.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// From asm-generic/socket.h; the kernel has it since 5.14 (e8b9eab99232).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the calling thread's namespace; `None` where the kernel does not tell it.
pub fn of_this_thread() -> io::Result<Option<u64>> {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` and `len` are live locals, and `len` is the size of `cookie`.
    let rc = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut len)
    };
    told(if rc == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) })
}

/// Kernels before 5.14 do not know the option.
fn told(answer: io::Result<u64>) -> io::Result<Option<u64>> {
    match answer {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        answer => answer.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_the_option_is_no_error() {
        let errno = |errno| told(Err(io::Error::from_raw_os_error(errno))).map_err(|error| error.raw_os_error());
        assert_eq!(told(Ok(7)).ok(), Some(Some(7)));
        assert_eq!(errno(libc::ENOPROTOOPT), Ok(None));
        assert_eq!(errno(libc::EBADF), Err(Some(libc::EBADF)));
    }
}
