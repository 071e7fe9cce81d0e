//! Where pods are: on this node by device, elsewhere by node.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Addr4, Addr6,
    family::{of_families, pod_of_families},
};

/// A pod on this node; the key is its address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LocalPod {
    /// Host side of its veth pair.
    pub ifindex: u32,
    pub identity: u32,
    pub pod_mac: [u8; 6],
    pub host_mac: [u8; 6],
    /// Bits of [`crate::pod_flag`].
    pub flags: u32,
    /// Cookie of its network namespace, 0 if unknown.
    pub netns_cookie: u64,
}
const _: () = assert!(size_of::<LocalPod>() == 32);

of_families! {
    /// A prefix of other nodes' pods.
    pub struct PrefixKey<A> {
        pub addr: A,
        pub prefix_len: u8,
        pub pad: [u8; 3],
    }
}
const _: () = assert!(size_of::<PrefixKey<Addr4>>() == 8 && size_of::<PrefixKey<Addr6>>() == 20);

of_families! {
    /// What is known about an address elsewhere.
    pub struct Endpoint<A> {
        /// Address of the node it is on; in the tables of IPv6 an IPv4 address is mapped.
        pub node: A,
        pub identity: u32,
    }
}
const _: () = assert!(size_of::<Endpoint<Addr4>>() == 8 && size_of::<Endpoint<Addr6>>() == 20);

of_families! {
    /// An address that the node answers ARP or neighbour solicitations for on a device.
    pub struct L2Key<A> {
        pub addr: A,
        pub ifindex: u32,
    }
}
const _: () = assert!(size_of::<L2Key<Addr4>>() == 8 && size_of::<L2Key<Addr6>>() == 20);

/// The device's own address, which the answer names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct L2Mac {
    pub mac: [u8; 6],
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<L2Mac>() == 8);

crate::pod!(LocalPod, L2Mac);
crate::layout::fields! {
    LocalPod { ifindex, identity, pod_mac, host_mac, flags, netns_cookie }
    L2Mac { mac, pad }
}
pod_of_families!(PrefixKey, Endpoint, L2Key);
