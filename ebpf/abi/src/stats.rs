//! Counters: every drop has a reason, every failed map operation an errno.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Per-CPU value of `DROPS` and `COUNTERS`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}
const _: () = assert!(size_of::<Traffic>() == 16);

crate::pod!(Traffic);
crate::layout::fields! {
    Traffic { packets, bytes }
}

/// Declares a dense enum that indexes a per-CPU array, with the label metrics and text use.
macro_rules! index {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $value:literal => $label:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum $name { $($(#[$doc])* $variant = $value,)* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub const fn index(self) -> u32 {
                self as u32
            }

            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }

        const _: () = {
            let mut i = 0;
            while i < $name::ALL.len() {
                assert!($name::ALL[i] as usize == i, "indexes must be dense");
                i += 1;
            }
        };
    };
}

index! {
    /// Why a packet was dropped or a connection refused.
    DropReason {
        /// A header is cut short or contradicts itself.
        InvalidPacket = 0 => "invalid_packet",
        /// A pod sent from an address that is not its own.
        InvalidSource = 1 => "invalid_source",
        /// An address of the service range that no Service has.
        NoService = 2 => "no_service",
        /// A Service without a usable backend.
        NoBackend = 3 => "no_backend",
        /// A pod address on no known node.
        NoRemote = 4 => "no_remote",
        /// The kernel refused the tunnel key.
        TunnelKey = 5 => "tunnel_key",
        /// An encapsulated packet of another network.
        TunnelId = 6 => "tunnel_id",
        /// Every port tried for masquerading is taken.
        NoSnatPort = 7 => "no_snat_port",
        /// A NAT or conntrack entry could not be written.
        FlowInsert = 8 => "flow_insert",
        /// A later fragment whose first fragment was not seen.
        UnknownFragment = 9 => "unknown_fragment",
        /// The kernel refused to change the packet.
        PacketWrite = 10 => "packet_write",
        /// A protocol that cannot be translated.
        UnknownProtocol = 11 => "unknown_protocol",
        /// `externalTrafficPolicy: Local` without a backend on this node.
        NoLocalBackend = 12 => "no_local_backend",
        /// A client that `loadBalancerSourceRanges` does not name.
        SourceRange = 13 => "source_range",
        /// The node has no route to where a translated packet goes.
        NoRoute = 14 => "no_route",
        /// The time to live of a translated packet is over.
        TtlExpired = 15 => "ttl_expired",
        /// More than a pod's `kubernetes.io/ingress-bandwidth`.
        PodBandwidth = 16 => "pod_bandwidth",
        /// A pod accepts a TCP connection of which nothing is known any more.
        NoFlow = 17 => "no_flow",
        /// Longer than what its next hop takes. Its sender is told, if it may be.
        TooBig = 18 => "too_big",
        /// A packet for a service, passed on by an address that is no node's.
        UnknownNode = 19 => "unknown_node",
        /// The first fragment of an SCTP packet whose ports would change: its checksum covers what has not come yet.
        SctpFragment = 20 => "sctp_fragment",
    }
}

index! {
    /// Events that are not drops.
    Counter {
        /// Delivered to a pod on this node by `redirect_peer`.
        ToPod = 0 => "to_pod",
        /// Sent to another node through the overlay.
        ToOverlay = 1 => "to_overlay",
        /// Sent to another node by its route.
        ToNode = 2 => "to_node",
        /// Left to the host's network stack.
        ToStack = 3 => "to_stack",
        /// Neither IPv4 nor ARP, left to the programs of IPv6 if there are any, and to the host's network stack.
        NotIpv4 = 4 => "not_ipv4",
        /// A socket was connected, or a datagram sent, to a backend.
        SocketLb = 5 => "socket_lb",
        /// A socket was refused: no backend.
        SocketRefused = 6 => "socket_refused",
        /// A flow was balanced packet by packet.
        PacketLb = 7 => "packet_lb",
        /// A flow was masqueraded.
        Masquerade = 8 => "masquerade",
        /// A port was taken and the next one tried.
        SnatRetry = 9 => "snat_retry",
        /// A packet to a masquerading port that belongs to no flow.
        SnatMiss = 10 => "snat_miss",
        /// A TCP segment without SYN that belongs to no known flow: flows are breaking.
        FlowMiss = 11 => "flow_miss",
        /// The frontend was replaced while it was read and looked up again.
        FrontendRetry = 12 => "frontend_retry",
        /// An ICMP error was translated.
        IcmpError = 13 => "icmp_error",
        /// One of a flow's two entries had been evicted and was written again.
        HalfFlow = 14 => "half_flow",
        /// A flow from outside was balanced to a backend of this node.
        ExternalLocal = 15 => "external_local",
        /// A flow from outside was balanced to a backend elsewhere.
        ExternalRemote = 16 => "external_remote",
        /// A translated packet left for outside.
        ToOutside = 17 => "to_outside",
        /// A process was refused a port of the node that a service has.
        BindRefused = 18 => "bind_refused",
        /// A packet was answered with a refusal: no backend.
        Rejected = 19 => "rejected",
        /// An ARP request or neighbour solicitation for an announced address was answered.
        ArpReply = 20 => "arp_reply",
        /// A translated packet went to another node's pod from XDP, encapsulated.
        XdpOverlay = 21 => "xdp_overlay",
        /// A translated packet went by the host's routes from XDP.
        XdpForward = 22 => "xdp_forward",
        /// A packet tells its sender that its pod's bandwidth is almost used up.
        CongestionMarked = 23 => "congestion_marked",
        /// A half-open flow made place for another one: many mean a flood of packets with forged sources.
        HalfOpenEvicted = 24 => "half_open_evicted",
        /// A port of the node was taken from a flow that was half-open or over.
        SnatTakeover = 25 => "snat_takeover",
        /// The sender of a packet was told how long its packets may be.
        TooBigAnswered = 26 => "too_big_answered",
        /// A flow from outside was balanced to a backend elsewhere that answers its client itself.
        ExternalDsr = 27 => "external_dsr",
        /// A packet of such a flow was passed on to the backend's node.
        ToDsr = 28 => "to_dsr",
    }
}

index! {
    /// Maps that programs write; with an errno it indexes `MAP_ERRORS`.
    MapId {
        Ct4 = 0 => "xb_ct4",
        Nat4 = 1 => "xb_nat4",
        Fragments4 = 2 => "xb_frag4",
        Affinity = 3 => "xb_lb4_affinity",
        Origins = 4 => "xb_sock4_origin",
        Latency4 = 5 => "xb_latency4",
        Ct6 = 6 => "xb_ct6",
        Nat6 = 7 => "xb_nat6",
        Fragments6 = 8 => "xb_frag6",
        Affinity6 = 9 => "xb_lb6_affinity",
        Origins6 = 10 => "xb_sock6_origin",
        Latency6 = 11 => "xb_latency6",
    }
}

/// Entries of `DROPS` and `COUNTERS`: with room, because pinned arrays keep their size.
pub const TRAFFIC_ENTRIES: u32 = 64;
const _: () = assert!(DropReason::ALL.len() <= TRAFFIC_ENTRIES as usize);
const _: () = assert!(Counter::ALL.len() <= TRAFFIC_ENTRIES as usize);

/// Errnos of map operations fit (ENOENT 2 … EEXIST 17, ENOSPC 28).
pub const ERRNOS: u32 = 64;
pub const MAP_ERRORS_ENTRIES: u32 = 16 * ERRNOS;

impl MapId {
    /// Index in `MAP_ERRORS`. `error` is what the helper returned: a negative errno.
    pub const fn error_index(self, error: i32) -> u32 {
        self as u32 * ERRNOS + (error.unsigned_abs() & (ERRNOS - 1))
    }
}

const _: () = assert!((MapId::ALL.len() as u32) * ERRNOS <= MAP_ERRORS_ENTRIES);
