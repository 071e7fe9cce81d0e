//! IPv6 addresses by words of this machine, as globals and the kernel's structures hold them.

use xebec_abi::Addr6;

pub type Words = [u32; 4];

#[inline(always)]
pub fn words(addr: Addr6) -> Words {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
}

#[inline(always)]
pub fn bytes(words: Words) -> Addr6 {
    let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] = words.map(u32::to_ne_bytes);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}
