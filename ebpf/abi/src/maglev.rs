//! Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016): every node
//! finds the same backend for a flow, and a backend that goes takes few flows of others with it.
//!
//! A table belongs to one generation of a service, as its backends do. It is written before the frontend that leads to
//! it, so its entries are seen whole or not at all.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::lb::ServiceId;

/// Sizes that a table may have: the largest prime below each power of two, so that every backend's permutation visits
/// every entry.
pub const SIZES: [u32; 9] = [251, 509, 1_021, 2_039, 4_093, 8_191, 16_381, 32_749, 65_521];

/// 1 % of difference between the shares of 160 backends (the paper asks for a hundred entries each).
pub const SIZE_DEFAULT: u32 = 16_381;

/// Entries of one value of the map.
pub const BLOCK_ENTRIES: usize = 256;

/// Bits of an index into the smallest table: programs index tables by the upper bits of a hash, as if they had the
/// power of two of entries. The few that are missing repeat the first.
const BITS_MIN: u32 = 8;

/// Where a frontend's flags say how large its table is.
const CODE_SHIFT: u32 = 12;

/// What [`crate::lb::FrontendValue::flags`] says of a table with `size` entries; `None` of a size that no table has.
pub fn flags(size: u32) -> Option<u16> {
    let index = SIZES.iter().position(|known| *known == size)?;
    Some((index as u16 + 1) << CODE_SHIFT)
}

/// The flags of a frontend that are about its table.
pub const FLAGS: u16 = 0xf << CODE_SHIFT;

/// The size that a frontend's flags name, if its service has a table.
pub fn size(flags: u16) -> Option<u32> {
    SIZES.get(usize::from(flags >> CODE_SHIFT).checked_sub(1)?).copied()
}

/// How many blocks a table of `size` entries takes.
pub const fn blocks(size: u32) -> u16 {
    size.div_ceil(BLOCK_ENTRIES as u32) as u16
}

/// The entry that a flow with this hash has in the table of a frontend with these flags.
#[inline(always)]
pub const fn entry(flags: u16, hash: u32) -> Option<u16> {
    let code = (flags >> CODE_SHIFT) as u32;
    if code == 0 {
        return None;
    }
    // As long as the code is one of a size, the shift is between 16 and 24.
    Some((hash >> ((32 - (BITS_MIN - 1) - code) & 31)) as u16)
}

/// A part of a table.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaglevKey {
    pub service: ServiceId,
    pub generation: u16,
    /// Entries from `block` times [`BLOCK_ENTRIES`] on.
    pub block: u16,
}
const _: () = assert!(size_of::<MaglevKey>() == 8);

/// Slots of backends under the same service and generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaglevBlock {
    pub slots: [u16; BLOCK_ENTRIES],
}
const _: () = assert!(size_of::<MaglevBlock>() == 512);

crate::pod!(MaglevKey, MaglevBlock);
crate::layout::fields! {
    MaglevKey { service, generation, block }
    MaglevBlock { slots }
}
