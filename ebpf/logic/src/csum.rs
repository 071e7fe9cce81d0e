//! Internet checksums (RFC 1071) updated by difference (RFC 1624). Words are in the byte order of
//! the packet, as `u32::from_ne_bytes` reads them: one's complement sums do not care.

use crate::Packet;

/// What `new` adds to a sum that `old` was part of.
#[inline(always)]
pub const fn diff(old: u32, new: u32) -> u32 {
    add(!old, new)
}

/// One's complement addition of 32-bit partial sums.
#[inline(always)]
pub const fn add(a: u32, b: u32) -> u32 {
    let sum = a as u64 + b as u64;
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

/// A partial sum folded to 16 bits, not complemented.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum field after its data changed by `diff`: RFC 1624 equation 3.
#[inline(always)]
pub const fn update(field: [u8; 2], diff: u32) -> [u8; 2] {
    let sum = add(!u16::from_ne_bytes(field) as u32 & 0xffff, diff);
    (!fold(sum)).to_ne_bytes()
}

/// Updates the checksum at `offset` of a packet whose checksums are complete. `optional` is UDP's rule: zero means no
/// checksum, and stays.
#[inline(always)]
pub fn apply<P: Packet>(packet: &mut P, offset: usize, diff: u32, optional: bool) -> Option<()> {
    let field = packet.load::<2>(offset)?;
    if optional && field == [0, 0] {
        return Some(());
    }
    let updated = update(field, diff);
    packet.store(offset, if optional && updated == [0, 0] { [0xff, 0xff] } else { updated })
}

#[cfg(test)]
mod tests;
