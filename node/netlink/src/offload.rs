//! What a veth pair spares the stacks at its ends, and a wire does not.
#![allow(unsafe_code)] // ioctl(2): netlink has it only since 5.6.

use std::ffi::CStr;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use crate::{Error, Result};

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
    name: [u8; libc::IFNAMSIZ],
    value: *mut Value,
    rest: [u64; 2],
}

/// Has the stack compute the checksums of what a device of the calling thread's network namespace sends, as
/// `ethtool -K DEVICE tx off` does. With them goes segmentation: the kernel leaves none to a device without checksums.
pub fn compute_checksums(device: &str) -> Result<()> {
    set(device).map_err(|source| Error::Netlink {
        operation: "compute checksums for",
        object: device.to_owned(),
        source,
    })
}

fn set(device: &str) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut value = Value { command: SET_TX_CSUM, data: 0 };
    let mut request = Request { name: [0; libc::IFNAMSIZ], value: &raw mut value, rest: [0; 2] };
    request.name.iter_mut().zip(device.bytes()).for_each(|(byte, of_name)| *byte = of_name);
    CStr::from_bytes_until_nul(&request.name).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: the request and the value that it points to have the layouts that the command names, and outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
