//! What a decision works with.

use crate::{
    Family,
    conntrack::Touch,
    header::{Ip, Transport},
    icmp::Quoted,
    snat::Claim,
    xdp::Hop,
};
use xebec_abi::FlowKey;

/// The large values of a decision, each in one place from its beginning to its end: those of IPv6 are more than the stack
/// of a program holds ([`crate::Tables::with_room`]). Every pattern of bytes that a decision leaves is a value.
#[derive(Clone, Copy, Default, Debug)]
pub struct Room<A: Family> {
    pub ip: Ip<A>,
    pub transport: Transport,
    pub touch: Touch,
    /// Of the flow that is looked up. Where [`crate::external::onward`] decides, its tuple is the one that the packet
    /// came with.
    pub key: FlowKey<A>,
    /// What the packet's tuple becomes.
    pub claim: Claim<A>,
    /// Of an ICMP error.
    pub quoted: Quoted<A>,
    /// What the packet's next hop takes, if that is less than the packet ([`xebec_abi::DropReason::TooBig`]).
    pub mtu: u32,
    /// The node that it goes to, where a verdict names one, or that it came from through a tunnel.
    pub node: A,
    /// Of what a driver sends.
    pub hop: Hop<A>,
}
