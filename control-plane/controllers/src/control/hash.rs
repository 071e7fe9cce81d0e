//! Hashes that become names, as upstream's: FNV-1a in an alphabet that spells no words.

/// Characters of apimachinery's `rand.SafeEncodeString`: no vowels, nothing that looks like another.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A hash of `bytes`, encoded. A collision count gives another one for the same bytes.
pub(crate) fn encoded(bytes: &[u8], collision_count: Option<i32>) -> String {
    let mut hash = Fnv::default();
    hash.write(bytes);
    if let Some(count) = collision_count {
        hash.write(&count.to_le_bytes());
    }
    let encode = |digit: u8| char::from(SAFE[usize::from(digit) % SAFE.len()]);
    hash.0.to_string().bytes().map(encode).collect()
}

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}
