//! Names and MAC addresses of devices, all derived: the same object gets the same name after a restart.

use std::net::IpAddr;

use xebec_netlink::MacAddr;

/// Holds the gateway address.
pub const HOST_DEVICE: &str = "xb_host";

/// The overlay.
pub const VXLAN_DEVICE: &str = "xb_vxlan";

/// The host side of a pod's veth: `xb` and 12 hexadecimal digits, 14 of the 15 bytes that the kernel allows.
pub fn host_device(container: &str, ifname: &str) -> String {
    let [_, _, a, b, c, d, e, f] = hash(&format!("{container}/{ifname}")).to_be_bytes();
    format!("xb{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")
}

pub fn is_host_device(name: &str) -> bool {
    name.strip_prefix("xb")
        .is_some_and(|hex| hex.len() == 12 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// The MAC address of `xb_vxlan` on the node of this address: every node can tell every other's.
///
/// They must differ: a VXLAN device drops a frame whose source is its own address as a loop (`vxlan_set_mac`).
pub fn vxlan_mac(node_ip: IpAddr) -> MacAddr {
    MacAddr::local(format!("xb_vxlan {node_ip}").as_bytes())
}

/// FNV-1a, 64 bits.
fn hash(s: &str) -> u64 {
    s.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
