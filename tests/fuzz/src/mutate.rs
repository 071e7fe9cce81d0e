//! Changes of bytes, the same ones for the same seed.

/// What decoders are known to trip over.
const TELLING: [&[u8]; 16] = [
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\0",
    b"[[[[",
    b"{{{{",
    b"((((",
    b"\\u0000",
    b"\xf0\x9f\x91\x91",
    b"-0",
    b"1e999",
    b"9223372036854775808",
    b"null",
    b"\"\"",
    b"..",
    b"%2f",
    b"=",
];
/// What grows further is only slow.
const BYTES_MAX: usize = 1 << 16;

/// xorshift64*
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `limit`, or 0.
    #[allow(clippy::cast_possible_truncation)]
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    /// What fuzzers do: flip, cut, repeat, and splice in parts of others and telling numbers.
    #[allow(clippy::cast_possible_truncation)]
    pub fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let length = self.below(16).min(bytes.len() - at);
        match self.below(6) {
            0 if length > 0 => bytes[at] ^= 1 << self.below(8),
            1 if length > 0 => bytes[at] = self.below(256) as u8,
            2 => _ = bytes.drain(at..at + length),
            3 => {
                let part = bytes[at..at + length].repeat(1 + self.below(200));
                bytes.splice(at..at, part);
            }
            4 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                let part = other[from..(from + self.below(64)).min(other.len())].to_vec();
                bytes.splice(at..at + length, part);
            }
            _ => {
                let part = TELLING[self.below(TELLING.len())].to_vec();
                bytes.splice(at..at + length, part);
            }
        }
        bytes.truncate(BYTES_MAX);
    }
}
