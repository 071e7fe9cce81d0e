//! Types that exist in both IP families, with the address as their parameter.

use core::{cmp::Ordering, fmt, hash::Hash, net::Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::Layout;

/// An IPv4 address in network order.
pub type Addr4 = [u8; 4];

/// An IPv6 address in network order, by the words of this machine that its bytes are: programs copy and compare it by
/// words, while LLVM moves an array of bytes byte by byte, through more stack than a program has.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Addr6([u32; 4]);

impl Addr6 {
    #[inline(always)]
    pub const fn new(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    #[inline(always)]
    pub const fn octets(self) -> [u8; 16] {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] =
            [self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes(), self.0[3].to_ne_bytes()];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The words as they lie in memory.
    #[inline(always)]
    pub const fn words(&self) -> &[u32; 4] {
        &self.0
    }

    #[inline(always)]
    pub const fn words_mut(&mut self) -> &mut [u32; 4] {
        &mut self.0
    }
}

impl From<Ipv6Addr> for Addr6 {
    fn from(addr: Ipv6Addr) -> Self {
        Self::new(addr.octets())
    }
}

impl From<Addr6> for Ipv6Addr {
    fn from(addr: Addr6) -> Self {
        Self::from(addr.octets())
    }
}

impl Ord for Addr6 {
    fn cmp(&self, other: &Self) -> Ordering {
        self.octets().cmp(&other.octets())
    }
}

impl PartialOrd for Addr6 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Addr6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv6Addr::from(*self).fmt(f)
    }
}

crate::pod!(Addr6);
crate::layout::whole!(Addr6);

/// What every part of a map's key or value is.
pub trait Plain:
    Copy + Default + Eq + Hash + fmt::Debug + FromBytes + Immutable + KnownLayout + Layout + 'static
{
}
impl<T: Copy + Default + Eq + Hash + fmt::Debug + FromBytes + Immutable + KnownLayout + Layout + 'static> Plain for T {}

mod sealed {
    /// Only the families that [`super::pod_of_families`] checks.
    pub trait Sealed {}
    impl Sealed for super::Addr4 {}
    impl Sealed for super::Addr6 {}
}

/// An IP address in network order. It says the family of the types that it is a parameter of.
pub trait Address: Plain + Ord + sealed::Sealed {
    /// Fills an address and a port up to whole words of eight bytes.
    type PortPad: Plain;
    /// Identification of a datagram in fragments, as it lies in the packet.
    type FragmentId: Plain;
    type FragmentPad: Plain;
    /// Who asks, for session affinity: an address, or the cookie of a network namespace.
    type Client: Plain;
    const BITS: u8;
    const UNSPECIFIED: Self;

    fn client(self) -> Self::Client;
    fn netns_client(cookie: u64) -> Self::Client;
    /// The network of `prefix_len` bits that it is in.
    fn truncated(self, prefix_len: u8) -> Self;
}

impl Address for Addr4 {
    type PortPad = [u8; 2];
    type FragmentId = [u8; 2];
    type FragmentPad = u8;
    type Client = u64;
    const BITS: u8 = 32;
    const UNSPECIFIED: Self = [0; 4];

    #[inline(always)]
    fn client(self) -> u64 {
        u64::from(u32::from_ne_bytes(self))
    }

    #[inline(always)]
    fn netns_client(cookie: u64) -> u64 {
        cookie
    }

    #[inline(always)]
    fn truncated(self, prefix_len: u8) -> Self {
        let host = u32::from(Self::BITS.saturating_sub(prefix_len));
        let mask = u32::MAX.checked_shl(host).unwrap_or(0);
        (u32::from_be_bytes(self) & mask).to_be_bytes()
    }
}

impl Address for Addr6 {
    type PortPad = [u8; 6];
    type FragmentId = [u8; 4];
    type FragmentPad = [u8; 3];
    type Client = [u64; 2];
    const BITS: u8 = 128;
    const UNSPECIFIED: Self = Self([0; 4]);

    #[inline(always)]
    fn client(self) -> [u64; 2] {
        let [a, b, c, d] = self.0;
        [double(a, b), double(c, d)]
    }

    #[inline(always)]
    fn netns_client(cookie: u64) -> [u64; 2] {
        [cookie, 0]
    }

    #[inline(always)]
    fn truncated(self, prefix_len: u8) -> Self {
        let host = u32::from(Self::BITS.saturating_sub(prefix_len));
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        Self::new((u128::from_be_bytes(self.octets()) & mask).to_be_bytes())
    }
}

/// Two words that follow each other in memory.
#[inline(always)]
const fn double(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Declares structures with an [`Address`] as parameter. zerocopy cannot prove for a generic structure that it has no
/// padding, so `PACKED` does, for each family in [`pod_of_families`].
macro_rules! of_families {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident<A> { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)* }
    )*) => { $(
        $(#[$meta])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, Hash, Debug, zerocopy::FromBytes, zerocopy::Immutable,
            zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name<A: $crate::Address> { $($(#[$field_meta])* pub $field: $ty,)* }

        impl<A: $crate::Address> $name<A> {
            pub(crate) const PACKED: () = assert!(size_of::<Self>() == 0 $(+ size_of::<$ty>())*, "no padding");
        }

        impl<A: $crate::Address> $crate::layout::Layout for $name<A> {
            const FINGERPRINT: u64 = {
                let hash = $crate::layout::structure(size_of::<Self>());
                $(let hash = $crate::layout::field(
                    hash,
                    stringify!($field),
                    core::mem::offset_of!(Self, $field),
                    <$ty as $crate::layout::Layout>::FINGERPRINT,
                );)*
                hash
            };
        }
    )* };
}

/// Declares that user space may copy these types to and from maps.
macro_rules! pod_of_families {
    ($($name:ident),* $(,)?) => { $(
        // SAFETY: zerocopy's derive proves that every bit pattern is a value, `PACKED` below that neither family, and
        // there is no third, has padding.
        #[cfg(feature = "user")]
        #[allow(unsafe_code)]
        unsafe impl<A: $crate::Address> aya::Pod for $name<A> {}
        const _: () = {
            let () = $name::<$crate::Addr4>::PACKED;
            let () = $name::<$crate::Addr6>::PACKED;
        };
    )* };
}

pub(crate) use {of_families, pod_of_families};
