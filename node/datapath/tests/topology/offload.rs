//! What a veth pair spares the stacks at its ends, and a wire does not.
#![allow(unsafe_code)] // ioctl(2) for what netlink has only in newer kernels.

use std::{net::UdpSocket, os::fd::AsRawFd};

/// include/uapi/linux/sockios.h
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// `ETHTOOL_STXCSUM` of include/uapi/linux/ethtool.h
const SET_TX_CSUM: u32 = 0x17;

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ifreq` with its pointer.
#[repr(C)]
struct Request {
    name: [u8; 16],
    value: *mut Value,
    rest: [u64; 2],
}

/// Has the stack compute the checksums of what a device of the calling thread's network namespace sends.
pub fn compute_checksums(device: &str) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut value = Value { command: SET_TX_CSUM, data: 0 };
    let mut request = Request { name: [0; 16], value: &mut value, rest: [0; 2] };
    request.name[..device.len()].copy_from_slice(device.as_bytes());
    // SAFETY: the request and the value that it points to have the layouts that the command names, and outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &mut request) };
    assert_eq!(result, 0, "{device}: {}", std::io::Error::last_os_error());
}
