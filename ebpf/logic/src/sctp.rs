//! SCTP (RFC 9260): flows by its ports, as TCP has them, and its checksum, which covers the whole packet.
//!
//! The checksum is linear (CRC-32C): what two ports change of it depends on how many bytes follow them, and on none of those.

use crate::{
    Csum, Family, Packet,
    csum::diff,
    header::{IP, Ip, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN},
};

/// Offset of the first chunk's type from the start of the header.
pub const CHUNK: usize = 12;
const CSUM: usize = 8;
/// Bits of a packet's length.
const LENGTH_BITS: usize = 16;
const NIBBLES: usize = 8;

/// The polynomial of CRC-32C, its coefficients in reverse (RFC 9260 appendix A).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What a chunk of this type would be among TCP's flags: an association opens, closes and is aborted as a connection.
#[inline(always)]
pub const fn flags(chunk: u8) -> u8 {
    match chunk {
        // INIT and INIT ACK.
        1 => TCP_SYN,
        2 => TCP_SYN | TCP_ACK,
        // ABORT.
        6 => TCP_RST | TCP_ACK,
        // SHUTDOWN, SHUTDOWN ACK and SHUTDOWN COMPLETE.
        7 | 8 | 14 => TCP_FIN | TCP_ACK,
        _ => TCP_ACK,
    }
}

/// Writes ports, and what they change of checksums. `addresses` is what the addresses add to a sum. `None`: the packet
/// could not be written.
///
/// A checksum of zero is left: it is yet to be computed (`sctp_packet_pack`, net/sctp/output.c, where the device does it;
/// no program can see that), or there is none (RFC 9653).
#[inline(always)]
pub fn translate<A: Family, P: Packet>(packet: &mut P, ip: &Ip<A>, [old, new]: [u32; 2], addresses: u32) -> Option<()> {
    if A::PSEUDO == Csum::Pseudo6 {
        packet.add_frame_csum(addresses);
    }
    if old == new {
        return Some(());
    }
    let field = packet.load::<4>(ip.l4 + CSUM)?;
    if field != [0; 4] {
        let options = ip.l4.wrapping_sub(IP + A::HEADER_BYTES) as u32;
        let bytes = A::payload_bytes(packet)?.wrapping_sub(options);
        let change = followed_by(u32::from_le_bytes((old ^ new).to_ne_bytes()), bytes);
        let updated = (u32::from_le_bytes(field) ^ change).to_le_bytes();
        packet.add_frame_csum(diff(u32::from_ne_bytes(field), u32::from_ne_bytes(updated)));
        packet.store(ip.l4 + CSUM, updated)?;
    }
    packet.add_frame_csum(diff(old, new));
    packet.store(ip.l4, new.to_ne_bytes())
}

/// What bytes of a packet become of its checksum if those four at its start change by `change` (as a little-endian number)
/// and `bytes` follow from there on: `change` times x^(8 * `bytes`), modulo the polynomial. Not inlined, for the sake of
/// the caller's stack.
#[inline(never)]
fn followed_by(mut change: u32, bytes: u32) -> u32 {
    for (bit, table) in TABLES.iter().enumerate() {
        if bytes & (1 << bit) != 0 {
            change = times(table, change);
        }
    }
    change
}

#[inline(always)]
fn times(table: &Table, factor: u32) -> u32 {
    let mut product = 0;
    for (nibble, products) in table.iter().enumerate() {
        product ^= products[(factor >> (4 * nibble)) as usize & 0xf];
    }
    product
}

/// Of one factor, its products with every value of every nibble of the other one.
type Table = [[u32; 16]; NIBBLES];

/// Of x^(8 * 2^i).
static TABLES: [Table; LENGTH_BITS] = tables();

const fn tables() -> [Table; LENGTH_BITS] {
    let mut tables = [[[0; 16]; NIBBLES]; LENGTH_BITS];
    // x^8.
    let mut factor = 1 << (31 - 8);
    let mut bit = 0;
    while bit < LENGTH_BITS {
        let mut entry = 0;
        while entry < NIBBLES * 16 {
            let (nibble, value) = (entry / 16, entry % 16);
            tables[bit][nibble][value] = product((value as u32) << (4 * nibble), factor);
            entry += 1;
        }
        factor = product(factor, factor);
        bit += 1;
    }
    tables
}

/// Of two polynomials, the coefficient of x^0 in the highest bit.
const fn product(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while a != 0 {
        if a >> 31 != 0 {
            product ^= b;
        }
        a <<= 1;
        b = if b & 1 != 0 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

#[cfg(test)]
mod tests;
