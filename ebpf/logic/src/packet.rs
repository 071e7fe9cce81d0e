/// Which checksum a change of bytes belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Csum {
    /// Addresses of IPv4, under TCP and UDP.
    Pseudo,
    /// Addresses of IPv6, under TCP, UDP and ICMPv6. A device's sum over the whole packet stays what it was, because
    /// addresses and checksum change together; in IPv4 the header's checksum has made up for the addresses already.
    Pseudo6,
    /// Bytes that the checksum covers directly: ports, identifiers.
    Data,
}

/// A packet from its Ethernet header on.
pub trait Packet {
    /// Bytes on the wire, for counters.
    fn bytes(&self) -> u64;

    /// Bytes of payload in each of the segments that the packet is yet to be cut into (`gso_size`); 0: it goes as it
    /// is.
    fn segment_bytes(&self) -> u32;

    /// Makes the first `bytes` readable and writable; false if the packet is shorter.
    fn pull(&mut self, bytes: u32) -> bool;

    /// Cuts the packet, or makes it longer by bytes of no meaning. All of it is then readable and writable.
    #[must_use]
    fn resize(&mut self, bytes: u32) -> Option<()>;

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    #[must_use]
    fn store<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()>;

    /// Loads words, as `u32::from_ne_bytes` reads them.
    #[must_use]
    fn load_words<const N: usize>(&self, offset: usize, words: &mut [u32; N]) -> Option<()> {
        for (index, word) in words.iter_mut().enumerate() {
            *word = u32::from_ne_bytes(self.load(offset + index * 4)?);
        }
        Some(())
    }

    /// The opposite of [`Packet::load_words`].
    #[must_use]
    fn store_words<const N: usize>(&mut self, offset: usize, words: &[u32; N]) -> Option<()> {
        for (index, word) in words.iter().enumerate() {
            self.store(offset + index * 4, word.to_ne_bytes())?;
        }
        Some(())
    }

    /// Adds `diff` (see [`crate::csum::diff`]) to the transport checksum at `offset`. The device
    /// may not have computed the checksum yet, so only the kernel knows what is to change.
    /// `optional` is UDP's rule (RFC 768): zero means no checksum, and stays.
    #[must_use]
    fn add_csum(&mut self, offset: usize, diff: u32, csum: Csum, optional: bool) -> Option<()>;

    /// Tells the packet's receiver of congestion, if its sender asked for that (RFC 3168): whether it does now.
    fn mark_congestion(&mut self) -> bool;

    /// Tells that the packet's bytes changed by `diff` and no checksum in it makes up for that.
    fn add_frame_csum(&mut self, diff: u32);
}
