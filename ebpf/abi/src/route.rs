//! Where pods are: on this node by device, elsewhere by node.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Addr4;

/// A pod on this node; the key is its address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Pod4 {
    /// Host side of its veth pair.
    pub ifindex: u32,
    pub identity: u32,
    pub pod_mac: [u8; 6],
    pub host_mac: [u8; 6],
    pub pad: u32,
    /// Cookie of its network namespace, 0 if unknown.
    pub netns_cookie: u64,
}
const _: () = assert!(size_of::<Pod4>() == 32);

/// A prefix of other nodes' pods.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PrefixKey4 {
    pub addr: Addr4,
    pub prefix_len: u8,
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<PrefixKey4>() == 8);

/// What is known about an address elsewhere.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoint4 {
    /// Address of the node it is on.
    pub node: Addr4,
    pub identity: u32,
}
const _: () = assert!(size_of::<Endpoint4>() == 8);

/// An address that the node answers ARP for on a device.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct L2Key4 {
    pub addr: Addr4,
    pub ifindex: u32,
}
const _: () = assert!(size_of::<L2Key4>() == 8);

/// The device's own address, which the answer names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct L2Mac {
    pub mac: [u8; 6],
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<L2Mac>() == 8);

crate::pod!(Pod4, PrefixKey4, Endpoint4, L2Key4, L2Mac);
