//! Every decision of the datapath: parsing, load balancing, conntrack, NAT, routing.
//!
//! The code is generic over three traits: [`Family`] (IPv4 or IPv6), [`Packet`] (bytes of a packet) and [`Tables`]
//! (maps, clock, configuration). `ebpf/programs` implements them over BPF contexts and maps, [`model`] over byte
//! vectors and hash maps, so the same source runs in the kernel and on the host, and a differential
//! test holds them equal.
//!
//! Code here must be provable by the kernel's verifier: no panics, no recursion, bounded loops,
//! everything inlined into the program that calls it.
#![cfg_attr(not(any(test, feature = "model")), no_std)]
#![forbid(unsafe_code)]

pub mod conntrack;
pub mod csum;
pub mod deliver;
pub mod dsr;
pub mod external;
mod family;
#[cfg(test)]
mod fixture;
pub mod header;
pub mod icmp;
pub mod l2;
pub mod latency;
pub mod lb;
pub mod limit;
pub mod maglev;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod mtu;
pub mod nat;
pub mod netdev;
pub mod overlay;
mod packet;
pub mod pod;
pub mod reject;
mod room;
pub mod sctp;
pub mod service;
pub mod snat;
pub mod sock;
mod tables;
pub mod transient;
pub mod xdp;

pub use family::{Family, Header4, Header6};
pub use packet::{Csum, Packet};
pub use room::Room;
pub use tables::{FlowMap, Host, Settings, Tables, Unwanted};

use xebec_abi::Addr4;

/// What happens to a packet. Changes to its bytes have been made when it is returned.
///
/// A structure with every field always set, not an enum with payloads: LLVM leaves a payload that a
/// variant does not have undefined and may still move it through the stack, and the verifier refuses
/// to read an undefined register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub action: Action,
    /// Of [`Action::Pod`], the device's index; of [`Action::Overlay`], [`Action::Encapsulate`], [`Action::Dsr`] and
    /// [`Action::DsrNodePort`], the node's IPv4 address as the bytes of a word of this machine, or 0: then it has IPv6 alone, and
    /// its address is in the room.
    pub to: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Action {
    /// On its way: to the host's stack at ingress, to the wire or the pod at egress.
    Pass,
    /// To the pod behind a host-side device.
    Pod,
    /// To a node through the overlay device.
    Overlay,
    /// On its way out of the overlay device, to a node.
    Encapsulate,
    /// To the node of a backend, as its client sent it to a service's own address ([`dsr`]).
    Dsr,
    /// The same of what was sent to a NodePort.
    DsrNodePort,
    /// To another node by the host's routes, without the host's stack if its FIB can say where.
    Route,
    /// By the host's routes and never through its stack, which would refuse the packet's source.
    Forward,
    /// The same of what another node passed on ([`dsr`]): an answer to it goes by the routes too, not back to that node.
    ForwardPassed,
    /// Back where it came from: it has become its own answer.
    Answer,
}

impl Verdict {
    pub const PASS: Self = Self { action: Action::Pass, to: 0 };
    pub const ANSWER: Self = Self { action: Action::Answer, to: 0 };
    pub const FORWARD: Self = Self { action: Action::Forward, to: 0 };
    pub const FORWARD_PASSED: Self = Self { action: Action::ForwardPassed, to: 0 };
    pub const ROUTE: Self = Self { action: Action::Route, to: 0 };

    #[inline(always)]
    pub const fn pod(ifindex: u32) -> Self {
        Self { action: Action::Pod, to: ifindex }
    }

    #[inline(always)]
    pub const fn overlay(node: Addr4) -> Self {
        Self { action: Action::Overlay, to: u32::from_ne_bytes(node) }
    }

    #[inline(always)]
    pub const fn encapsulate(node: Addr4) -> Self {
        Self { action: Action::Encapsulate, to: u32::from_ne_bytes(node) }
    }

    #[inline(always)]
    pub const fn dsr(node: Addr4, is_node_port: bool) -> Self {
        let action = if is_node_port { Action::DsrNodePort } else { Action::Dsr };
        Self { action, to: u32::from_ne_bytes(node) }
    }

    /// The node's IPv4 address.
    #[inline(always)]
    pub const fn node(&self) -> Addr4 {
        self.to.to_ne_bytes()
    }
}
