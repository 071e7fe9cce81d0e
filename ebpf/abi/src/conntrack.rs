//! Conntrack and NAT entries: a tuple and what it becomes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Addr4, Addr6, Address, Be16,
    family::{of_families, pod_of_families},
    lb::{BackendId, ServiceId},
};

/// Both ports. ICMP echo carries its identifier in both.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ports {
    pub src: Be16,
    pub dst: Be16,
}
const _: () = assert!(size_of::<Ports>() == 4);

of_families! {
    /// Source and destination of one direction of a flow.
    pub struct Tuple<A> {
        pub src: A,
        pub dst: A,
        pub ports: Ports,
    }
}
const _: () = assert!(size_of::<Tuple<Addr4>>() == 12 && size_of::<Tuple<Addr6>>() == 36);

impl<A: Address> Tuple<A> {
    /// In place: a whole value goes through the stack, of which a program of IPv6 has too little.
    #[inline(always)]
    pub fn set(&mut self, src: &A, dst: &A, ports: Ports) {
        self.src = *src;
        self.dst = *dst;
        self.ports = ports;
    }

    /// Makes it the tuple of the answer to `other`, in place.
    #[inline(always)]
    pub fn set_reversed(&mut self, other: &Self) {
        self.set(&other.dst, &other.src, Ports { src: other.ports.dst, dst: other.ports.src });
    }

    /// The tuple of the answer.
    #[inline(always)]
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, ports: Ports { src: self.ports.dst, dst: self.ports.src } }
    }
}

/// Which translation an entry is for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Direction(pub u8);

impl Direction {
    /// `CT`: client to service becomes client to backend.
    pub const SERVICE: Self = Self(0);
    /// `CT`: backend to client becomes service to client.
    pub const REPLY: Self = Self(1);
    /// `CT`: a flow that somebody outside the cluster opened to a pod; the key is the pod's answer,
    /// which must not be masqueraded. `to` carries the tunnel endpoint it came from, if any, in `src`.
    pub const INBOUND: Self = Self(2);
    /// `NAT`, the request: pod to outside becomes node to outside; outside to service becomes outside
    /// to a backend here, or node to a backend elsewhere. A backend elsewhere that answers its client itself is in
    /// `to` with its node's address as the source and no translation: there is no entry for answers. The source port
    /// is then 1 if the client dialled a NodePort, and else 0.
    pub const OUT: Self = Self(3);
    /// `NAT`, the answer: outside to node becomes outside to pod; backend to client, or to the node,
    /// becomes service to client.
    pub const IN: Self = Self(4);
    /// `NAT`, for the moment in which one CPU takes a port over: the key is that of the answer.
    pub const TAKEOVER: Self = Self(5);
}

of_families! {
    /// Key of `CT` and `NAT`.
    pub struct FlowKey<A> {
        pub tuple: Tuple<A>,
        pub proto: u8,
        pub direction: Direction,
        pub pad: [u8; 2],
    }
}
const _: () = assert!(size_of::<FlowKey<Addr4>>() == 16 && size_of::<FlowKey<Addr6>>() == 40);

impl<A: Address> FlowKey<A> {
    /// Everything but the tuple.
    #[inline(always)]
    pub fn set(&mut self, proto: u8, direction: Direction) {
        self.proto = proto;
        self.direction = direction;
        self.pad = [0; 2];
    }

    /// The key of the entry for the other direction, if flows of this direction come in pairs: an
    /// answer's tuple is what the request became, reversed.
    pub fn partner(&self, flow: &Flow<A>) -> Option<Self> {
        let direction = match self.direction {
            Direction::SERVICE => Direction::REPLY,
            Direction::REPLY => Direction::SERVICE,
            Direction::OUT => Direction::IN,
            Direction::IN => Direction::OUT,
            _ => return None,
        };
        Some(Self { tuple: flow.to.reversed(), proto: self.proto, direction, pad: [0; 2] })
    }
}

/// Where a flow is in its life; it decides how long an idle entry stays. A word, so that [`Flow4`] has no padding: to
/// clear three bytes LLVM calls `memset`, and kernels before 6.12 charge every call at least 32 bytes of stack.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct FlowState(pub u32);

impl FlowState {
    /// Half-open: nothing has answered.
    pub const OPENING: Self = Self(0);
    /// Of a request's entry: its client has shown that it got an answer. Of an answer's: there was one.
    pub const OPEN: Self = Self(1);
    /// TCP FIN seen.
    pub const CLOSING: Self = Self(2);
    /// TCP RST seen, and nothing after it.
    pub const RESET: Self = Self(3);
    /// The lowest byte of [`FlowState::answered`].
    const ANSWERED: u32 = 4;
    /// How far a client may have got with acknowledging when it is first heard after an answer: two packets of the largest
    /// size there is. Of 4,096 guesses one is as good.
    const ANSWER_BYTES_MAX: u32 = 1 << 20;

    /// Of a request's entry. Half-open: there was an answer, with this sequence number (TCP, in host order), and nothing
    /// shows yet that the client got it.
    #[inline(always)]
    pub const fn answered(seq: u32) -> Self {
        Self(seq & !0xff | Self::ANSWERED)
    }

    #[inline(always)]
    pub const fn is_answered(self) -> bool {
        self.0 & 0xff == Self::ANSWERED
    }

    /// Does this acknowledgement number (in host order) show that its sender got the answer?
    #[inline(always)]
    pub const fn shows(self, ack: u32) -> bool {
        self.is_answered() && ack.wrapping_sub(self.0 & !0xff) <= Self::ANSWER_BYTES_MAX
    }

    /// May the client's address be forged, as far as is known?
    #[inline(always)]
    pub const fn is_half_open(self) -> bool {
        self.0 == Self::OPENING.0 || self.is_answered()
    }

    #[inline(always)]
    pub const fn is_closed(self) -> bool {
        self.0 == Self::CLOSING.0 || self.0 == Self::RESET.0
    }
}

of_families! {
    /// Value of `CT` and `NAT`. Written through the pointer, never replaced: replacing an entry of
    /// an LRU map can evict another.
    pub struct Flow1<A> {
        /// What the packet's tuple becomes.
        pub to: Tuple<A>,
        pub state: FlowState,
        pub service: ServiceId,
        pub backend: BackendId,
        /// The monotonic clock, as of its last tick.
        pub seen_ns: u64,
        pub packets: u64,
        pub bytes: u64,
    }
}
const _: () = assert!(size_of::<Flow1<Addr4>>() == 48 && size_of::<Flow1<Addr6>>() == 72);

of_families! {
    /// The same in another layout, of another size, which exists so that migration can be tried at any time: programs are
    /// built for it with the feature `rehearsal`.
    pub struct RehearsalFlow<A> {
        pub seen_ns: u64,
        pub bytes: u64,
        pub packets: u64,
        /// 0.
        pub spare: u64,
        pub backend: BackendId,
        pub service: ServiceId,
        pub state: FlowState,
        pub to: Tuple<A>,
    }
}
const _: () = assert!(size_of::<RehearsalFlow<Addr4>>() == 56 && size_of::<RehearsalFlow<Addr6>>() == 80);

#[cfg(not(feature = "rehearsal"))]
pub type Flow<A> = Flow1<A>;
/// The layout that programs can take flows over from, and that they are written in too while others still read it.
#[cfg(not(feature = "rehearsal"))]
pub type OtherFlow<A> = RehearsalFlow<A>;
#[cfg(feature = "rehearsal")]
pub type Flow<A> = RehearsalFlow<A>;
#[cfg(feature = "rehearsal")]
pub type OtherFlow<A> = Flow1<A>;

impl<A: Address> Flow1<A> {
    /// Becomes what `other` is, in place, but for the tuple: LLVM moves that with a function, for which a program of IPv6
    /// has no stack.
    #[inline(always)]
    pub fn take(&mut self, other: &RehearsalFlow<A>) {
        (self.state, self.service, self.backend) = (other.state, other.service, other.backend);
        (self.seen_ns, self.packets, self.bytes) = (other.seen_ns, other.packets, other.bytes);
    }
}

impl<A: Address> RehearsalFlow<A> {
    /// As [`Flow1::take`].
    #[inline(always)]
    pub fn take(&mut self, other: &Flow1<A>) {
        (self.state, self.service, self.backend) = (other.state, other.service, other.backend);
        (self.seen_ns, self.packets, self.bytes, self.spare) = (other.seen_ns, other.packets, other.bytes, 0);
    }
}

impl<A: Address> From<RehearsalFlow<A>> for Flow1<A> {
    fn from(other: RehearsalFlow<A>) -> Self {
        let mut flow = Self { to: other.to, ..Self::default() };
        flow.take(&other);
        flow
    }
}

impl<A: Address> From<Flow1<A>> for RehearsalFlow<A> {
    fn from(other: Flow1<A>) -> Self {
        let mut flow = Self { to: other.to, ..Self::default() };
        flow.take(&other);
        flow
    }
}

of_families! {
    /// A datagram in fragments; the value is its [`Ports`].
    pub struct FragmentKey<A> {
        pub src: A,
        pub dst: A,
        /// As it lies in the packet: 16 bits of IPv4, 32 of IPv6.
        pub id: A::FragmentId,
        pub proto: u8,
        pub pad: A::FragmentPad,
    }
}
const _: () = assert!(size_of::<FragmentKey<Addr4>>() == 12 && size_of::<FragmentKey<Addr6>>() == 40);

crate::pod!(Ports, Direction, FlowState);
pod_of_families!(Tuple, FlowKey, Flow1, RehearsalFlow, FragmentKey);
crate::layout::whole!(Direction, FlowState);
crate::layout::fields! {
    Ports { src, dst }
}
