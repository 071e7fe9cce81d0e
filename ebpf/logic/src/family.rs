//! What differs between IPv4 and IPv6. Everything else is written once, with the address as parameter.

mod v4;
mod v6;

use core::fmt::Debug;

use xebec_abi::{Addr4, Address, DropReason, Tuple};

use crate::{
    Csum, Host, Packet, Verdict,
    csum::{add, diff},
    header::{Ip, Kind},
};

pub use v4::Header4;
pub use v6::Header6;

/// An IP family; the implementing type is its address.
pub trait Family: Address {
    /// The fields of a header that the other family does not have.
    type Header: Copy + PartialEq + Eq + Default + Debug;
    const ETHERTYPE: u16;
    /// Of a header without options or extensions.
    const HEADER_BYTES: usize;
    /// Number of its ICMP.
    const ICMP: u8;
    const ECHO_REQUEST: u8;
    /// "Port unreachable": type and code.
    const PORT_UNREACHABLE: [u8; 2];
    /// "Fragmentation needed" or "packet too big": type and code.
    const TOO_BIG: [u8; 2];
    /// What every link takes, or every host.
    const MTU_MIN: u32;
    /// How addresses are part of transport checksums.
    const PSEUDO: Csum;
    /// Does the checksum of its ICMP cover addresses?
    const ICMP_COVERS_ADDRESSES: bool;

    /// Are packets counted that are of neither this family nor ARP? By one family: those of both see each packet.
    const COUNTS_OTHERS: bool;

    /// Parses a header at `offset`, which may be that of a packet quoted by an ICMP error, into `ip`.
    fn parse<P: Packet>(packet: &mut P, offset: usize, ip: &mut Ip<Self>) -> Option<()>;
    fn icmp_kind(kind: u8) -> Kind;
    fn fragment_id(ip: &Ip<Self>) -> Self::FragmentId;

    /// Writes the addresses of the header at `offset`. `diff` is what they add to a checksum.
    fn store_addresses<P: Packet>(
        packet: &mut P,
        ip: &mut Ip<Self>,
        offset: usize,
        to: &Tuple<Self>,
        diff: u32,
    ) -> Option<()>;

    /// Takes one from the time to live.
    fn decrement_ttl<P: Packet>(packet: &mut P, ip: &mut Ip<Self>) -> Option<()>;

    /// Writes the header of an answer to the packet with header `ip`, which starts at the same place and has `bytes`
    /// of payload.
    fn answer_header<P: Packet>(packet: &mut P, ip: &Ip<Self>, proto: u8, bytes: u16) -> Option<()>;
    /// May whoever forwards the packet cut it?
    fn may_fragment<P: Packet>(packet: &P) -> bool;
    /// Bytes after the header, from the header that is there.
    fn payload_bytes<P: Packet>(packet: &P) -> Option<u32>;

    /// What tells packets of a flow apart, should a packet around them be cut.
    fn distinction<P: Packet>(packet: &P, ip: &Ip<Self>) -> Option<[u8; 2]>;

    /// What becomes of a packet that stays on the link between a pod and its node; `None`: it may leave it.
    fn on_link<P: Packet, T: Host>(packet: &P, tables: &T, ip: &Ip<Self>) -> Option<Result<Verdict, DropReason>>;

    fn is_multicast(self) -> bool;
    fn is_loopback(self) -> bool;

    /// The words of the address added up, as checksums do.
    fn sum(self) -> u32;
    /// What the address adds to a sum where `old` was.
    fn diff(old: Self, new: Self) -> u32;
    /// Mixes the address into a hash.
    fn mix(self, hash: u32) -> u32;

    /// Writes the address at `offset`.
    fn store<P: Packet>(self, packet: &mut P, offset: usize) -> Option<()>;

    /// A node's IPv4 address as an address of this family, none as none.
    fn of_node(node: Addr4) -> Self;
    /// A node's IPv4 address; none of a node that has its address in this family alone.
    fn to_node(self) -> Addr4;
}

/// What both addresses add to a sum that the packet's were part of.
#[inline(always)]
pub fn address_diff<A: Family>(ip: &Ip<A>, to: &Tuple<A>) -> u32 {
    add(A::diff(ip.src, to.src), A::diff(ip.dst, to.dst))
}

#[inline(always)]
const fn word_diff(old: [u8; 4], new: [u8; 4]) -> u32 {
    diff(u32::from_ne_bytes(old), u32::from_ne_bytes(new))
}

#[cfg(test)]
mod tests;
