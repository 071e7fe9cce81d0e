//! Types that exist in both IP families, with the address as their parameter.

use core::{fmt, hash::Hash};

use zerocopy::{FromBytes, Immutable, KnownLayout};

/// An IPv4 address in network order.
pub type Addr4 = [u8; 4];
/// An IPv6 address in network order.
pub type Addr6 = [u8; 16];

/// What every part of a map's key or value is.
pub trait Plain: Copy + Default + Eq + Hash + fmt::Debug + FromBytes + Immutable + KnownLayout + 'static {}
impl<T: Copy + Default + Eq + Hash + fmt::Debug + FromBytes + Immutable + KnownLayout + 'static> Plain for T {}

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
    const UNSPECIFIED: Self = [0; 16];

    #[inline(always)]
    fn client(self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self;
        [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
    }

    #[inline(always)]
    fn netns_client(cookie: u64) -> [u64; 2] {
        [cookie, 0]
    }

    #[inline(always)]
    fn truncated(self, prefix_len: u8) -> Self {
        let host = u32::from(Self::BITS.saturating_sub(prefix_len));
        let mask = u128::MAX.checked_shl(host).unwrap_or(0);
        (u128::from_be_bytes(self) & mask).to_be_bytes()
    }
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
